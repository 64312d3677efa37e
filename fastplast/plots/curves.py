"""Metrics over tasks: mean and 95% band of every setting, thin lines for members, a panel for each metric."""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.checkpoint import write_file
from fastplast.config import closest
from fastplast.plots.columns import Axis, place
from fastplast.plots.settings import Setting, phrase, settings_of
from fastplast.stats import mean_interval
from fastplast.store import WHENS
from fastplast.sweeps.directory import Results, open_results

if TYPE_CHECKING:
    import numpy
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # no time: same bytes
_LINE_STYLES = ("-", "--", ":", "-.")
_PANEL = (3.6, 2.6)  # inches
_BAND = 0.22  # opacity
_LETTER = 0.053  # inches, of the legend's font
_RASTER = 300  # thin lines from which on they are pixels in PDF and SVG, which would take megabytes
_IN_TITLE = ("benchmark", "network", "activation")


@dataclass(frozen=True)
class _Data:
    """What a figure shows: `table` has every run's rows, `labels` the runs' names."""

    table: pandas.DataFrame
    settings: list[Setting]
    constant: dict[str, Any]
    diverged: dict[tuple[int, int], int]
    sources: list[str]


def plot(
    runs: Results | str | os.PathLike | Sequence[Results | str | os.PathLike],
    columns: Sequence[str] = ("error", "hessian_srank"),
    out: str | os.PathLike | None = None,
    formats: Sequence[str] = FORMATS,
    log: Collection[str] = (),
) -> list[Path]:
    """Draws metrics over tasks; several runs are compared. Reads run files only, needs no display.

    A setting is what members with the same hyperparameters share; it has its mean over members, the t interval of the
    mean, and its members as thin lines. A member is left out from the task in which it diverged.

    Args:
        runs: a run, a sweep or a file of exported results, or several: readers or paths.
        columns: a panel each: names of metrics, or ``name@start``, ``name@end`` where a metric is measured at both.
        out: a directory, or a file whose ending is a format; ``figures/`` of the first run if None.
        formats: of the files: ``"png"``, ``"pdf"``, ``"svg"``.
        log: the columns with a logarithmic axis.

    Returns:
        The files written.

    Raises:
        ValueError: if there is no run, no column, an unknown column or format, or nothing positive on a log axis.

    Example:
        >>> plot(["runs/none", "runs/l2"], ("error", "loss"), log=("loss",))  # doctest: +SKIP
        [PosixPath('runs/none/figures/error-loss.png'), ...]
    """
    opened = [run if isinstance(run, Results) else open_results(run) for run in _listed(runs)]
    columns = [columns] if isinstance(columns, str) else list(columns)
    for name, values in (("runs", opened), ("columns", columns), ("formats", formats)):
        if not values:
            raise ValueError(f"{name} must name at least one: got none.")
    paths = _paths(opened[0], columns, out, formats)
    data = _read(opened)
    measured = _measured(data.table)
    panels = [place(column, measured) for column in columns]
    for column in log:
        if column not in columns:
            raise ValueError(f"log must be among the columns drawn: got {column!r}. {closest(column, columns)}")

    from matplotlib import style

    with style.context(str(Path(__file__).parent / "fastplast.mplstyle"), after_reset=True):
        figure = _figure(data, panels, [column in log for column in columns])
        for path in paths:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=path.suffix[1:], metadata=_METADATA[path.suffix[1:]])
            write_file(path, buffer.getvalue())
    return paths


def _listed(runs: Any) -> list[Any]:
    return [runs] if isinstance(runs, (Results, str, os.PathLike)) else list(runs)


def _paths(first: Results, columns: list[str], out: str | os.PathLike | None, formats: Sequence[str]) -> list[Path]:
    home = first.path if first.path.is_dir() else first.path.parent
    directory = home / "figures" if out is None else Path(out)
    if directory.suffix[1:] in FORMATS:
        return [directory]
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"formats must be known names: got {name!r}. {closest(name, FORMATS)}")
    stem = "-".join(columns).replace("@", "_")
    return [directory / f"{stem}.{name}" for name in formats]


def _read(runs: Sequence[Results]) -> _Data:
    import pandas

    tables = [run.metrics().assign(run=i) for i, run in enumerate(runs)]
    table = pandas.concat(tables, ignore_index=True)
    members = pandas.concat([run.members.assign(run=i) for i, run in enumerate(runs)], ignore_index=True)
    names = [run.path.resolve().with_suffix("").name if run.path.is_file() else run.path.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    settings, constant = settings_of(members, names)
    frozen = table[table["diverged"].eq(True)] if "diverged" in table else table[:0]
    diverged = frozen.groupby(["run", "member"])["task"].min()
    sources = []
    for name, run in zip(names, runs):
        env = run.env
        commit = f", commit {env['commit'][:7]}{' with changes' if env['dirty'] else ''}" if env["commit"] else ""
        sources.append(f"{name} (fastplast {env['fastplast']}{commit})")
    first = {(int(run), int(member)): int(task) for (run, member), task in diverged.items()}  # type: ignore[misc]
    return _Data(table, settings, constant, first, sources)


def _measured(table: pandas.DataFrame) -> dict[str, list[str]]:
    """Column that can be drawn to the times at which it has values."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    names = list(table.columns)
    return {
        name: times
        for name in names[names.index("when") + 1 :]
        if name != "run" and (is_numeric_dtype(table[name]) or is_bool_dtype(table[name].dropna().infer_objects()))
        and (times := [when for when in WHENS if table.loc[table["when"] == when, name].notna().any()])
    }  # fmt: skip


def _figure(data: _Data, panels: Sequence[tuple[str, Axis]], log: Sequence[bool]) -> Figure:
    """The panels, and below them the legend and the caption, for which the figure grows."""
    from matplotlib.figure import Figure

    wide = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = math.ceil(len(panels) / wide)
    width = max(wide * _PANEL[0], 4.8)
    caption = textwrap.wrap(_caption(data), int(width * 20), break_on_hyphens=False)
    handles, labels = zip(*_legend(data))
    labels = [textwrap.fill(label, int((width - 0.65) / _LETTER), break_on_hyphens=False) for label in labels]
    longest = max(len(line) for label in labels for line in label.splitlines())
    legend_columns = max(1, min(len(labels), int(width / (0.5 + _LETTER * longest))))
    lines = max(label.count("\n") + 1 for label in labels) * math.ceil(len(labels) / legend_columns)
    legend_height = 0.158 * lines + 0.1
    caption_height = 0.115 * len(caption) + 0.08
    height = 0.3 + rows * _PANEL[1] + legend_height + caption_height
    figure = Figure(figsize=(width, height), layout="constrained")
    bottom = (legend_height + caption_height) / height
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom - 0.3 / height))  # type: ignore[union-attr]
    for index, ((column, axis), is_log) in enumerate(zip(panels, log)):
        axes = figure.add_subplot(rows, wide, index + 1)
        _panel(axes, data, column, axis, is_log)
    title = _title(data)
    size = min(9.0, 130 * width / len(title))
    figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=size)
    anchor = (0.5, caption_height / height)
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=anchor, ncols=legend_columns, borderaxespad=0)
    figure.text(
        0.06 / width, 0.06 / height, "\n".join(caption), va="bottom", fontsize=6.5, color="0.35", linespacing=1.2
    )
    return figure


def _panel(axes: Axes, data: _Data, column: str, axis: Axis, log: bool) -> None:
    import numpy as np
    from matplotlib.ticker import FixedLocator, MaxNLocator

    values = data.table[data.table["when"] == axis.when].pivot(index=["run", "member"], columns="task", values=column)
    values = values.astype(float).replace([np.inf, -np.inf], np.nan)
    for member, task in data.diverged.items():
        if member in values.index:
            values.loc[member, values.columns >= task] = np.nan
    if values.isna().all(axis=None):
        axes.text(0.5, 0.5, "no member left", transform=axes.transAxes, ha="center")
    else:
        values = values.dropna(axis=1, how="all")  # tasks at which this was not measured
    tasks = values.columns.to_numpy(float)
    seen = []
    for index, setting in enumerate(data.settings):
        shift = 0.5 * (index - (len(data.settings) - 1) / 2) / len(data.settings) if len(tasks) == 1 else 0.0
        seen.append(
            _draw(axes, tasks + shift, values.reindex(list(setting.members)).to_numpy(), setting, len(data.settings))
        )
        stopped = sorted({data.diverged[member] for member in setting.members if member in data.diverged})
        rim = 0.97 - 0.035 * (index % 8)
        axes.plot(
            stopped, [rim] * len(stopped), "x", color=_colour(setting), transform=axes.get_xaxis_transform(), ms=4
        )
    axes.set_xlabel("task (number, from 0)")
    space = " " if len(axis.label) < 24 else "\n"  # a longer line would leave the panel
    axes.set_ylabel(f"{axis.label}{space}at task {axis.when}" + (f"\n({axis.unit})" if axis.unit else ""))
    first, last = data.table["task"].min(), data.table["task"].max()
    pad = 0.02 * (last - first) or 0.6
    axes.set_xlim(first - pad, last + pad)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True) if last > first else FixedLocator([first]))
    if any(lines.size for lines, *_ in seen):
        if log and not any((lines > 0).any() for lines, *_ in seen):
            raise ValueError(f"log needs positive values: got none in {column!r}. Draw it on a linear axis.")
        if log:
            axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(*_limits(seen, log))


def _draw(axes: Axes, x: numpy.ndarray, values: numpy.ndarray, setting: Setting, settings: int) -> tuple:
    """One of several settings, `[M, K]`; returns the finite members, lower and upper ends of the band."""
    import numpy as np
    from matplotlib.collections import LineCollection

    found, colour = mean_interval(values), _colour(setting)
    faint = max(0.06, min(0.5, 3 / len(values)) / max(1.0, settings / 3))
    if len(x) == 1:
        dots = np.repeat(x, len(values))
        axes.plot(dots, values[:, 0], ".", color=colour, alpha=max(faint, 0.2), ms=5, mew=0, zorder=1.5)
        ends = np.nan_to_num([found.estimate - found.low, found.high - found.estimate])
        axes.errorbar(x, found.estimate, ends, fmt="o", color=colour, ms=5, mec="white", mew=0.5, lw=1, capsize=2.5)
    else:
        if len(values) > 1:
            lines = [np.column_stack([x, row])[np.isfinite(row)] for row in values]
            pixels = len(values) * settings > _RASTER
            thin = LineCollection(lines, colors=colour, linewidths=0.5, alpha=faint, rasterized=pixels, zorder=1.5)
            axes.add_collection(thin)
            opacity = _BAND if len(values) > 4 else _BAND / 2  # where the band is as wide as the panel
            axes.fill_between(x, found.low, found.high, color=colour, alpha=opacity, lw=0, zorder=1.8)
        marker = "o" if len(x) <= 12 else None
        axes.plot(x, found.estimate, color=colour, ls=_line_style(setting), marker=marker, zorder=2.5)
    return tuple(part[np.isfinite(part)] for part in (values, found.low, found.high))


def _limits(seen: list[tuple], log: bool) -> tuple[float, float]:
    # All members, and as much of the bands as leaves members in sight: at two members a t interval is 18 times as wide.
    import numpy as np

    lines, low, high = (np.concatenate(parts) for parts in zip(*seen))
    if log:
        lines, low, high = (np.log10(part[part > 0]) for part in (lines, low, high))
    bottom, top = lines.min(), lines.max()
    room = 0.5 * (top - bottom) or 0.05 * abs(top) or 0.5
    floor = 0.0 if bottom >= 0 and not log else -np.inf
    bottom, top = max(bottom - room, min([bottom, *low]), floor), min(top + room, max([top, *high]))
    margin = 0.05 * (top - bottom) or room
    return (10 ** (bottom - margin), 10 ** (top + margin)) if log else (bottom - margin, top + margin)


def _legend(data: _Data) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = []
    for setting in data.settings:
        n, frozen = len(setting.members), sum(member in data.diverged for member in setting.members)
        look = {"ls": _line_style(setting)} if data.table["task"].nunique() > 1 else {"ls": "", "marker": "o", "ms": 5}
        line = Line2D([], [], color=_colour(setting))
        line.set(**look)
        handle = (Patch(color=_colour(setting), alpha=_BAND, lw=0), line) if n > 1 and look["ls"] else line
        count = f"n = {n}" + (f", {frozen} diverged ×" if frozen else "")
        entries.append(
            (handle, f"{setting.label or 'mean'} ({count})" if setting.label or n > 1 else f"member ({count})")
        )
    return entries


def _title(data: _Data) -> str:
    count = sum(len(setting.members) for setting in data.settings)
    words = []
    for name in _IN_TITLE:
        values = sorted(set(data.table[name].dropna())) if name in data.table else []
        words += [", ".join(map(str, values)) if len(values) <= 2 else f"{len(values)} {name}s".replace("ys", "ies")]
    return "  ·  ".join(word for word in [*words, f"{count} member{'s' * (count > 1)}"] if word)


def _caption(data: _Data) -> str:
    if all(len(setting.members) == 1 for setting in data.settings):
        text = ""
    elif data.table["task"].nunique() == 1:
        text = "Dot: mean over members; bar: its 95% t interval; small dots: members. "
    else:
        text = "Line: mean over members; band: its 95% t interval; thin lines: members. "
    if data.diverged:
        text += "×: a member diverged in this task, and is left out from it on. "
    fixed = [phrase(name, value) for name, value in data.constant.items() if name not in _IN_TITLE]
    text += f"Data: {'; '.join(data.sources)}. "
    seeds = sorted(set(data.table["seed"])) if "seed" in data.table else []
    if seeds:
        whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
        words = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))
        fixed.append(f"seed{'s' * (len(seeds) > 1)} {words}")
    return text + f"Settings: {', '.join(word.replace(' ', chr(0xA0)) for word in fixed)}."  # lines break between them


def _colour(setting: Setting) -> str:
    from matplotlib import rcParams

    palette = rcParams["axes.prop_cycle"].by_key()["color"]
    return palette[setting.colour % len(palette)]


def _line_style(setting: Setting) -> str:
    from matplotlib import rcParams

    return _LINE_STYLES[setting.colour // len(rcParams["axes.prop_cycle"]) % len(_LINE_STYLES)]
