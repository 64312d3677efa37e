"""Metrics over tasks: mean and 95% band of every setting, thin lines for members, a panel for each metric."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.config import ConfigError
from fastplast.drawing.bands import first_divergence
from fastplast.drawing.captions import BANDS, CROSSES, IN_TITLE, count_words, seed_words, title_words
from fastplast.drawing.columns import Axis, find_column, measured_at, range_of
from fastplast.drawing.page import (
    FORMATS,
    add_texts,
    check_formats,
    figures_directory,
    name_of,
    save,
    styled,
    version_of,
)
from fastplast.drawing.panels import dot_handle, draw_over_tasks, label_of, legend_handle, set_limits
from fastplast.drawing.settings import Setting, phrase, settings_of
from fastplast.results import open_results
from fastplast.runs.results import Results
from fastplast.runs.tables import measured
from fastplast.text import closest

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (3.6, 2.6)  # inches
_DOTS = "Dot: mean over members; bar: its 95% interval, within what is possible; small dots: members."


@dataclass(frozen=True)
class _Data:
    """What a figure shows: `table` has every run's rows, `measured` names what can be drawn and when it has values."""

    table: pandas.DataFrame
    measured: dict[str, list[str]]
    settings: list[Setting]
    constant: dict[str, Any]
    diverged: dict[tuple[int, int], int]
    sources: list[str]

    @property
    def has_lines(self) -> bool:
        """Whether there is more than one task, and so lines in place of dots."""
        return self.table["task"].nunique() > 1


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
        ConfigError: if there is no run, no column, or an unknown column or format.
        ValueError: if there is nothing positive on a log axis.

    Example:
        >>> plot(["runs/none", "runs/l2"], ("error", "loss"), log=("loss",))  # doctest: +SKIP
        [PosixPath('runs/none/figures/error-loss.png'), ...]
    """
    opened = [open_results(run) if isinstance(run, (str, os.PathLike)) else run for run in _listed(runs)]
    columns = [columns] if isinstance(columns, str) else list(columns)
    for name, values in (("runs", opened), ("columns", columns), ("formats", formats)):
        if not values:
            raise ConfigError(f"{name} must name at least one: got none.")
    paths = _paths(opened[0], columns, out, formats)
    data = _read(opened)
    units = {name: unit for run in opened for name, unit in run.units.items()}
    panels = [find_column(column, data.measured, units) for column in columns]
    for column in log:
        if column not in columns:
            raise ConfigError(f"log must be among the columns drawn: got {column!r}. {closest(column, columns)}")

    with styled():
        save(_figure(data, panels, [column in log for column in columns]), paths)
    return paths


def _listed(runs: Any) -> list[Any]:
    return list(runs) if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]


def _paths(first: Results, columns: list[str], out: str | os.PathLike | None, formats: Sequence[str]) -> list[Path]:
    directory = figures_directory(first.path) if out is None else Path(out).expanduser()
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
        and (times := measured_at(table, name))
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
    add_texts(figure, (width, rows * _PANEL[1]), _title(data), _legend(data), _caption(data))
    return figure


def _panel(axes: Axes, data: _Data, column: str, axis: Axis, log: bool) -> None:
    drawn = draw_over_tasks(axes, data.table, (column, axis.when), data.settings, data.diverged)
    axes.set_ylabel(label_of(axis))
    if any(lines.size for lines, *_ in drawn):
        if log and not any((lines > 0).any() for lines, *_ in drawn):
            raise ValueError(f"log needs positive values: got none in {column!r}. Draw it on a linear axis.")
        set_limits(axes, drawn, log, range_of(column, data.table, data.table[column].to_numpy(float)))


def _legend(data: _Data) -> list[tuple[Any, str]]:
    entries = []
    for setting in data.settings:
        n, diverged = len(setting.members), sum(member in data.diverged for member in setting.members)
        handle = legend_handle(setting.colour, n, len(data.settings)) if data.has_lines else dot_handle(setting.colour)
        label = setting.label or ("mean" if n > 1 else "member")
        entries.append((handle, f"{label} ({count_words([n], diverged)})"))
    return entries


def _title(data: _Data) -> str:
    count = sum(len(setting.members) for setting in data.settings)
    return "  ·  ".join([*title_words(data.table), f"{count} member{'s' * (count > 1)}"])


def _caption(data: _Data) -> str:
    sentences = []
    if any(len(setting.members) > 1 for setting in data.settings):
        sentences.append(BANDS if data.has_lines else _DOTS)
    if data.diverged:
        sentences.append(CROSSES)
    sentences.append(f"Data: {'; '.join(data.sources)}.")
    shared = [phrase(name, value) for name, value in data.constant.items() if name not in IN_TITLE]
    if "seed" in data.table:
        shared.append(seed_words(data.table["seed"]))
    words = ", ".join(word.replace(" ", "\N{NO-BREAK SPACE}") for word in shared)  # lines break between them
    return " ".join([*sentences, f"Settings: {words}."])
