"""Metrics over tasks: mean and 95% band of every setting, thin lines for members, a panel for each metric."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.drawing.bands import (
    band_look,
    colour_of,
    draw_members,
    first_divergence,
    limits,
    line_style_of,
    member_curves,
)
from fastplast.drawing.columns import Axis, place
from fastplast.drawing.page import FORMATS, check_formats, finish, home_of, name_of, save, styled, version_of
from fastplast.drawing.settings import Setting, phrase, settings_of
from fastplast.results import open_results
from fastplast.runs.results import Results
from fastplast.runs.run import WHENS
from fastplast.runs.tables import measured
from fastplast.text import closest

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (3.6, 2.6)  # inches
_IN_TITLE = ("benchmark", "network", "activation")


@dataclass(frozen=True)
class _Data:
    """What a figure shows: `table` has every run's rows, `measured` names what can be drawn and when it has values."""

    table: pandas.DataFrame
    measured: dict[str, list[str]]
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
    opened = [open_results(run) if isinstance(run, (str, os.PathLike)) else run for run in _listed(runs)]
    columns = [columns] if isinstance(columns, str) else list(columns)
    for name, values in (("runs", opened), ("columns", columns), ("formats", formats)):
        if not values:
            raise ValueError(f"{name} must name at least one: got none.")
    paths = _paths(opened[0], columns, out, formats)
    data = _read(opened)
    panels = [place(column, data.measured) for column in columns]
    for column in log:
        if column not in columns:
            raise ValueError(f"log must be among the columns drawn: got {column!r}. {closest(column, columns)}")

    with styled():
        save(_figure(data, panels, [column in log for column in columns]), paths)
    return paths


def _listed(runs: Any) -> list[Any]:
    return list(runs) if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]


def _paths(first: Results, columns: list[str], out: str | os.PathLike | None, formats: Sequence[str]) -> list[Path]:
    directory = home_of(first.path) if out is None else Path(out)
    if directory.suffix[1:] in FORMATS:
        return [directory]
    check_formats(formats)
    stem = "-".join(columns).replace("@", "_")
    return [directory / f"{stem}.{name}" for name in formats]


def _read(runs: Sequence[Results]) -> _Data:
    import pandas

    tables = [run.metrics("arrow") for run in runs]
    table = pandas.concat([one.to_pandas().assign(run=i) for i, one in enumerate(tables)], ignore_index=True)
    columns = dict.fromkeys(name for one in tables for name in measured(one))
    members = pandas.concat([run.members.assign(run=i) for i, run in enumerate(runs)], ignore_index=True)
    names = [name_of(run.path) for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    settings, constant = settings_of(members, names)
    sources = [f"{name} {version_of(run.env)}" for name, run in zip(names, runs)]
    return _Data(table, _times(table, columns), settings, constant, first_divergence(table), sources)


def _times(table: pandas.DataFrame, columns: Iterable[str]) -> dict[str, list[str]]:
    """Column that can be drawn to the times at which it has values."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return {
        name: times
        for name in columns
        if (is_numeric_dtype(table[name]) or is_bool_dtype(table[name].dropna().infer_objects()))
        and (times := [when for when in WHENS if table.loc[table["when"] == when, name].notna().any()])
    }  # fmt: skip


def _figure(data: _Data, panels: Sequence[tuple[str, Axis]], log: Sequence[bool]) -> Figure:
    from matplotlib.figure import Figure

    wide = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = math.ceil(len(panels) / wide)
    width = max(wide * _PANEL[0], 4.8)
    figure = Figure(layout="constrained")
    for index, ((column, axis), is_log) in enumerate(zip(panels, log)):
        axes = figure.add_subplot(rows, wide, index + 1)
        _panel(axes, data, column, axis, is_log)
    finish(figure, (width, rows * _PANEL[1]), _title(data), _legend(data), _caption(data))
    return figure


def _panel(axes: Axes, data: _Data, column: str, axis: Axis, log: bool) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator

    values = member_curves(data.table, column, axis.when, data.diverged)
    if values.isna().all(axis=None):
        axes.text(0.5, 0.5, "no member left", transform=axes.transAxes, ha="center")
    tasks = values.columns.to_numpy(float)
    seen = []
    for index, setting in enumerate(data.settings):
        shift = 0.5 * (index - (len(data.settings) - 1) / 2) / len(data.settings) if len(tasks) == 1 else 0.0
        own, colour = values.reindex(list(setting.members)).to_numpy(), colour_of(setting.colour)
        style = line_style_of(setting.colour)
        seen.append(draw_members(axes, tasks + shift, own, colour, style, len(data.settings)))
        stopped = sorted({data.diverged[member] for member in setting.members if member in data.diverged})
        rim = 0.97 - 0.035 * (index % 8)
        axes.plot(stopped, [rim] * len(stopped), "x", color=colour, transform=axes.get_xaxis_transform(), ms=4)
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
        axes.set_ylim(*limits(seen, log))


def _legend(data: _Data) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = []
    for setting in data.settings:
        n, frozen = len(setting.members), sum(member in data.diverged for member in setting.members)
        look = (
            {"ls": line_style_of(setting.colour)}
            if data.table["task"].nunique() > 1
            else {"ls": "", "marker": "o", "ms": 5}
        )
        line = Line2D([], [], color=colour_of(setting.colour))
        line.set(**look)
        band = Patch(**band_look(colour_of(setting.colour), n, len(data.settings)))
        handle = (band, line) if n > 1 and look["ls"] else line
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
