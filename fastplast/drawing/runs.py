"""Metrics over tasks: mean and 95% band of every setting, thin lines for members, a panel for each metric."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.config import ConfigError
from fastplast.drawing.bands import first_divergence, member_curves
from fastplast.drawing.captions import Labels
from fastplast.drawing.choice import Frame
from fastplast.drawing.columns import Axis, better_of, find_column, measured_at
from fastplast.drawing.facets import arrange, in_one_panel, narrow, place_fields
from fastplast.drawing.page import FORMATS, check_formats, figures_directory, name_of, save, styled, version_of
from fastplast.drawing.settings import settings_of
from fastplast.drawing.sheet import Shown, draw_sheet
from fastplast.results import open_results
from fastplast.runs.results import Results
from fastplast.runs.tables import measured
from fastplast.text import closest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Run = Results | str | os.PathLike
Runs = Run | Sequence[Run]


def plot(
    runs: Runs,
    columns: Sequence[str] = ("error", "hessian_srank"),
    *,
    row: str | None = None,
    col: str | None = None,
    hue: str | None = None,
    style: str | None = None,
    where: Mapping[str, Any] | None = None,
    best: str = "error",
    best_is: str | None = None,
    log: Collection[str] = (),
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    size: tuple[float, float] | None = None,
    members: bool = True,
    band: bool = True,
    caption: bool = True,
) -> Figure:
    """Draws metrics over tasks; several runs are compared. Reads run files only, needs no display.

    A setting is what members with the same hyperparameters share; it has its mean over members, the t interval of the
    mean, and its members as thin lines. A member is left out from the task in which it diverged. Of more than seven
    settings that differ in several fields, or where fields are named, the one of a line with the best mean of `best` is
    drawn, chosen on seeds that are not drawn where there are at least four.

    Args:
        runs: a run, a sweep or a file of exported results, or several: readers or paths.
        columns: a panel each: names of metrics, or ``name@start``, ``name@end`` where a metric is measured at both.
        row: field of ``Experiment``, ``"seed"`` or ``"run"`` by which rows of panels are told apart.
        col: likewise columns.
        hue: likewise colours.
        style: likewise line styles.
        where: field to the value, or the values, of the members that are drawn.
        best: the metric by which the best setting of a line is chosen.
        best_is: whether its ``"lowest"`` or its ``"highest"`` values are the best; as its definition says if None.
        log: the columns with a logarithmic axis; of those positive everywhere, mean and interval are of logarithms.
        labels: metric, field, value or legend entry to what is drawn in its place; formulas between dollar signs.
        title: above the panels, likewise; made from what is drawn if None, none if empty.
        size: width and height of the whole figure, inches; as large as panels and texts need if None.
        members: whether thin lines are drawn for members.
        band: whether intervals are drawn.
        caption: whether the small print below says what is drawn, and from which data.

    Returns:
        A figure of matplotlib, to change or to save.

    Raises:
        ConfigError: if a run, column, field, value or label is unknown, or what is asked for cannot be drawn.

    Example:
        >>> plot("runs/sweep", ["error"], hue="method", col="activation").savefig("error.pdf")  # doctest: +SKIP
    """
    opened: list[Results] = [open_results(run) if isinstance(run, (str, os.PathLike)) else run for run in _listed(runs)]
    columns, words = _checked(opened, columns, log), Labels(labels or {})
    parts = ["members"] * members + ["band"] * band
    places = {"row": row, "col": col, "hue": hue, "style": style}
    shown, panels = _shown(opened, columns, places, where or {}, (best, best_is), words, parts)
    with styled():
        return draw_sheet(shown, panels, [column in log for column in columns], words, title, size, caption)


def _shown(
    opened: list[Results],
    columns: Sequence[str],
    places: Mapping[str, str | None],
    where: Mapping[str, Any],
    best: tuple[str, str | None],
    words: Labels,
    parts: Sequence[str],
) -> tuple[Shown, list[tuple[str, Axis]]]:
    """What a figure shows, and its metrics with their axes."""
    table, rows, known = _read(opened, where)
    units = {name: unit for run in opened for name, unit in run.units.items()}
    panels = [find_column(column, known, units) for column in columns]
    names = _names(opened)

    def say(field: str, value: Any) -> str:
        return words.value(field, names[value] if field == "run" else value)

    settings, constant = settings_of(rows, names, words.value)
    fields = place_fields(rows, places, len(settings))
    diverged = first_divergence(table)
    if fields is None:
        facets, score = in_one_panel(settings, rows), ""
    else:
        column, axis = find_column(best[0], known, units, "best")
        better = better_of(column, axis, best[1])
        facets = arrange(rows, fields, member_curves(table, column, axis.when, diverged), say, better)
        score = f"{'Least' if better == 'lowest' else 'Greatest'} mean {axis.label}"
    sources = [f"{name} {version_of(run.env)}" for name, run in zip(names, opened)]
    return Shown(table, rows, diverged, facets, constant, sources, parts, score, say), panels


def write_plot(
    runs: Runs,
    columns: Sequence[str] = ("error", "hessian_srank"),
    out: str | os.PathLike | None = None,
    formats: Sequence[str] = FORMATS,
    **options: Any,
) -> list[Path]:
    """Draws metrics over tasks into files.

    Args:
        runs: as of ``plot``.
        columns: as of ``plot``.
        out: a directory, or a file whose ending is a format; ``figures/`` of the first run if None.
        formats: of the files: ``"png"``, ``"pdf"``, ``"svg"``.
        **options: others of ``plot``.

    Returns:
        The files written.

    Raises:
        ConfigError: as of ``plot``, or if a format is unknown.

    Example:
        >>> write_plot(["runs/none", "runs/l2"], ("error", "loss"), log=("loss",))  # doctest: +SKIP
        [PosixPath('runs/none/figures/error-loss.png'), ...]
    """
    listed, columns = _listed(runs), [columns] if isinstance(columns, str) else list(columns)
    if not formats:
        raise ConfigError("formats must name at least one: got none.")
    check_formats(formats)
    figure = plot(listed, columns, **options)
    first = listed[0]
    paths = _paths(first.path if isinstance(first, Results) else Path(first).expanduser(), columns, out, formats)
    with styled():
        save(figure, paths)
    return paths


def _listed(runs: Any) -> list[Any]:
    return list(runs) if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]


def _checked(opened: list[Results], columns: Sequence[str], log: Collection[str]) -> list[str]:
    """The columns as a list.

    Raises:
        ConfigError: if there is no run or no column, or a logarithmic one that is not drawn.
    """
    columns = [columns] if isinstance(columns, str) else list(columns)
    for name, values in (("runs", opened), ("columns", columns)):
        if not values:
            raise ConfigError(f"{name} must name at least one: got none.")
    for column in log:
        if column not in columns:
            raise ConfigError(f"log must be among the columns drawn: got {column!r}. {closest(column, columns)}")
    return columns


def _paths(first: Path, columns: list[str], out: str | os.PathLike | None, formats: Sequence[str]) -> list[Path]:
    directory = figures_directory(first) if out is None else Path(out).expanduser()
    if directory.suffix[1:] in FORMATS:
        return [directory]
    stem = "-".join(columns).replace("@", "_")
    return [directory / f"{stem}.{name}" for name in formats]


def _names(runs: Sequence[Results]) -> list[str]:
    names = [name_of(run.path) for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _read(runs: Sequence[Results], where: Mapping[str, Any]) -> tuple[Frame, Frame, dict[str, list[str]]]:
    """The metrics of all runs, their members, a row each, and what can be drawn with when it has values."""
    import pandas

    tables = [run.metrics("arrow") for run in runs]
    table: Frame = pandas.concat([one.to_pandas().assign(run=i) for i, one in enumerate(tables)], ignore_index=True)
    columns = dict.fromkeys(name for one in tables for name in measured(one))
    members: Frame = pandas.concat([run.members.assign(run=i) for i, run in enumerate(runs)], ignore_index=True)
    members = members.astype(object).where(members.notna(), None)
    members = narrow(members, where).reset_index(drop=True)
    drawn = pandas.MultiIndex.from_frame(members[["run", "member"]])
    table = table[pandas.MultiIndex.from_frame(table[["run", "member"]]).isin(drawn)].reset_index(drop=True)
    ended = table[table["when"] == "end"].groupby(["run", "member"])["task"].nunique()
    members["tasks"] = ended.reindex(drawn, fill_value=0).to_numpy()
    return table, members, _times(table, columns)


def _times(table: Frame, columns: Iterable[str]) -> dict[str, list[str]]:
    """Column that can be drawn to the times at which it has values."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return {
        name: times
        for name in columns
        if (is_numeric_dtype(table[name]) or is_bool_dtype(table[name].dropna().infer_objects()))
        and (times := measured_at(table, name))
    }  # fmt: skip
