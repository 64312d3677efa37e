"""What a figure is drawn from: metrics of runs and sweeps, narrowed to what it shows, and what they lack."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastplast.drawing.bands import first_divergence
from fastplast.drawing.captions import span
from fastplast.drawing.page import name_of, version_of
from fastplast.drawing.settings import NOT_SETTINGS, phrase
from fastplast.paper.registry import Figure
from fastplast.paper.studies import STUDIES, Use
from fastplast.results import open_each, open_results
from fastplast.runs.results import Results
from fastplast.runs.tables import described
from fastplast.stats import member_means
from fastplast.sweeps import Sweep

Frame = Any  # pandas.DataFrame, whose stubs take chosen rows for an array
_NAMED = (
    "benchmark",
    "network",
    "activation",
    "method",
    "learning_rate",
    "strength",
    "reduction",
    "epochs",
    "examples",
)


@dataclass(frozen=True)
class FigureData:
    """What a figure is drawn from: metrics of all members that it may show.

    Attributes:
        figure: that they are for.
        table: metrics, with a column ``run``.
        means: one row per member, as ``member_means`` gives.
        described: columns that describe a member.
        diverged: (run, member) to the task in which it diverged.
        sources: where they come from, in words.
        scale: at which they were trained; None where they were given.
    """

    figure: Figure
    table: Frame
    means: Frame
    described: tuple[str, ...]
    diverged: dict[tuple[int, int], int]
    sources: tuple[str, ...]
    scale: str | None

    def varying(self, members: Frame, known: Sequence[str] = ()) -> list[str]:
        """The hyperparameters in which members differ.

        Args:
            members: rows of ``means``.
            known: hyperparameters to leave out.

        Returns:
            Their columns.
        """
        return [
            name
            for name in self.described
            if name not in (*NOT_SETTINGS, *known) and members[name].map(repr).nunique() > 1
        ]  # fmt: skip


def read_results(figure: Figure, paths: Sequence[str | os.PathLike], scale: str | None = None) -> FigureData:
    """Reads runs and sweeps.

    Args:
        figure: that they are for; what it does not show is left out.
        paths: run or sweep directories.
        scale: at which they were trained; None where they were given.

    Returns:
        What was found.

    Raises:
        ValueError: if there is nothing that the figure shows.
        FileNotFoundError: if a path is no run or sweep.
        StoreError: if nothing has been measured yet.
    """
    import pandas

    if not paths:
        raise ValueError("--from must name at least one run or sweep: got none.")
    opened = open_each(paths)
    tables = [run.metrics("arrow") for run in opened]
    columns = tuple(dict.fromkeys(name for one in tables for name in described(one)))
    frames = [one.to_pandas().assign(run=i) for i, one in enumerate(tables)]
    table: Frame = _without_repetitions(pandas.concat(frames, ignore_index=True), columns)
    names = ", ".join(str(path) for path in paths)
    for name, values in figure.where.items():
        if name not in table:
            raise ValueError(f"figure {figure.number} needs the column {name}: {names} has none of that name.")
        shown = table[table[name].isin(values)]
        if shown.empty:
            wanted, found = ", ".join(map(str, values)), ", ".join(sorted(map(str, table[name].unique())))
            raise ValueError(f"figure {figure.number} needs members with {name} {wanted}: {names} has {found}.")
        table = shown
    sources = _sources(opened)
    images = sorted({f"{one} {two}" for one, two in zip(table["dataset"], table["data_source"])})
    means, sources = member_means(table, described=columns), (*sources, f"images: {', '.join(images)}")
    return FigureData(figure, table, means, columns, first_divergence(table), sources, scale)


def shortfalls(figure: Figure, data: FigureData, uses: Sequence[Use]) -> list[str]:
    """What results lack of the paper's.

    Args:
        figure: which.
        data: that it is drawn from.
        uses: that it would be drawn from.

    Returns:
        Phrases, such as ``it has 20 of 100 tasks``; none where nothing is lacking.
    """
    means = data.means
    grids = [use.grid("paper") for use in uses]
    tasks = max(int(grid["tasks"]) for grid in grids)
    seeds = max(STUDIES[use.study].seeds[0] for use in uses if use.seeds is None)
    has, lacks = [], []
    had = means["tasks"].astype(int)
    if had.min() < tasks:
        has.append(f"{span(had)} of {tasks} tasks")
    per_setting = means.groupby(data.varying(means) or ["run"], dropna=False)["seed"].nunique()
    if int(per_setting.max()) < seeds:
        has.append(f"{span(per_setting)} of {seeds} seeds of a setting")
    for name in _NAMED:
        wanted = _values(grids, name)
        if not wanted or name not in means:
            continue
        there, words = set(means[name]), name.replace("_", " ")
        missing = [value for value in wanted if value in figure.where.get(name, wanted) and value not in there]
        if missing and name in ("epochs", "examples"):
            has.append(f"{_listed(there)} in place of {_listed(missing)} {words}")
        elif missing:
            lacks.append(f"{words} {', '.join(phrase(name, value).removeprefix(f'{words} ') for value in missing)}")
    parts = [f"it has {', '.join(has)}"] if has else []
    return parts + ([f"it lacks {', '.join(lacks)}"] if lacks else [])


def _listed(values: Iterable[int]) -> str:
    return ", ".join(f"{value:,}" for value in sorted(values))


def _values(grids: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    found: dict[Any, None] = {}
    for grid in grids:
        default = {"epochs": 200, "method": "none"}.get(name)
        value = grid.get(name, default)
        found |= dict.fromkeys(value if isinstance(value, list) else [] if value is None else [value])
    return list(found)


def _without_repetitions(table: Frame, columns: Sequence[str]) -> Frame:
    """Of members that several runs hold, the first; `columns` describe a member."""
    names = [name for name in columns if name not in ("member", "engine", "data_source")]
    who: Frame = table.drop_duplicates(["run", "member"])[["run", "member", *names]]
    again = who[who.duplicated(names)]
    if again.empty:
        return table
    gone = set(zip(again["run"], again["member"]))
    return table[[pair not in gone for pair in zip(table["run"], table["member"])]].reset_index(drop=True)


def _sources(runs: Sequence[Results]) -> list[str]:
    """Names of runs and sweeps, those of one version together."""
    names: dict[str, list[str]] = {}
    for run in runs:
        for one in run.paths if isinstance(run, Sweep) else (run.path,):
            names.setdefault(version_of(open_results(one).env), []).append(name_of(Path(one)))
    return [f"{', '.join(places)} {version}" for version, places in names.items()]
