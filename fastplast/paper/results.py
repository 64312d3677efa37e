"""What a figure is drawn from: metrics of runs, sweeps and files, narrowed to what it shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastplast.config import BENCHMARKS, Experiment
from fastplast.drawing.bands import first_divergence, member_curves
from fastplast.drawing.page import name_of, version_of
from fastplast.drawing.settings import NOT_SETTINGS
from fastplast.paper.registry import LAST_HIDDEN, Figure, Grid
from fastplast.results import AnyResults, open_each, open_results
from fastplast.runs.archive import Archive
from fastplast.runs.results import Results
from fastplast.runs.tables import described
from fastplast.stats import member_means
from fastplast.sweeps import Sweep

Frame = Any  # pandas.DataFrame, whose stubs take chosen rows for an array
_VARIANT = ("activation", "method", "layer_norm", "dropout", "head_reset")
_PLAIN = {"layer_norm": False, "dropout": 0.0, "head_reset": "none"}
_USUAL = {"network": "mlp", "examples": 1280, "epochs": 200}


@dataclass(frozen=True)
class FigureData:
    """What a figure is drawn from: metrics of all members that it may show.

    Attributes:
        figure: that they are for.
        table: metrics, with columns ``run`` and ``variant``.
        means: one row per member, as ``member_means`` gives, with its ``variant``.
        described: columns that describe a member.
        diverged: (run, member) to the task in which it diverged.
        sources: where they come from, in words.
        scale: at which they were trained; None where they were given.
        epochs: curves within tasks, with a column ``run``, of a figure that has them.
    """

    figure: Figure
    table: Frame
    means: Frame
    described: tuple[str, ...]
    diverged: dict[tuple[int, int], int]
    sources: tuple[str, ...]
    scale: str | None
    epochs: Frame = None

    @cached_property
    def errors(self) -> Frame:
        """Error at task end, (run, member) x task, NaN where there is none or the member had diverged."""
        return member_curves(self.table, "error", "end", self.diverged)

    def varying(self, members: Frame, known: Sequence[str] = ()) -> list[str]:
        """The hyperparameters in which members differ.

        Args:
            members: rows of ``means``.
            known: hyperparameters to leave out; a variant has its own.

        Returns:
            Their columns.
        """
        out = {*NOT_SETTINGS, *known, *(_VARIANT if "variant" in known else ())}
        return [name for name in self.described if name not in out and members[name].map(repr).nunique() > 1]

    def metric(self, name: str) -> str:
        """The column of a metric, with its time, the last hidden layer's where there is one for every layer."""
        layers = [c.removeprefix("feature_srank_") for c in self.table if c.startswith("feature_srank_")]
        return name.replace(LAST_HIDDEN, layers[-1] if layers else "")


def read_results(figure: Figure, paths: Sequence[str | os.PathLike], scale: str | None = None) -> FigureData:
    """Reads runs and sweeps.

    Args:
        figure: that they are for; what it does not show is left out.
        paths: run or sweep directories, or files of results.
        scale: at which they were trained; None where they were given.

    Returns:
        What was found. Of members that several hold, the one of most tasks; where there are several networks or sizes
        of a task and the figure names none, those of the paper.

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
    table: Frame = _with_defaults(pandas.concat(frames, ignore_index=True), columns)
    table = _without_repetitions(table.assign(variant=_variants(table)), columns)
    names = f"{paths[0]}{f' and {len(paths) - 1} more' * (len(paths) > 1)}"
    for name, values in figure.where.items():
        if name not in table:
            raise ValueError(f"{figure.title} needs the column {name}: {names} has none of that name.")
        shown = table[table[name].isin(values)]
        if shown.empty:
            wanted, found = ", ".join(map(str, values)), ", ".join(sorted(map(str, table[name].unique())))
            raise ValueError(f"{figure.title} needs members with {name} {wanted}: {names} has {found}.")
        table = shown
    table = _usual(table, figure)
    table = table[[name for name in table if name in columns or table[name].notna().any()]]  # layers of other networks
    used = [opened[i] for i in sorted(table["run"].unique())]
    images = sorted({f"{one} {two}" for one, two in zip(table["dataset"], table["data_source"])})
    sources = (*_sources(used), f"images: {', '.join(images)}")
    means = member_means(table, described=(*columns, "variant"))
    epochs = _epochs(figure, opened) if isinstance(figure.drawing, Grid) and figure.drawing.x == "update" else None
    return FigureData(figure, table, means, columns, first_divergence(table), sources, scale, epochs)


def _with_defaults(table: Frame, columns: Sequence[str]) -> Frame:
    """Files of earlier versions lack fields of later ones, whose defaults they were trained with."""
    fields = {name: Experiment.__dataclass_fields__[name].default for name in columns
              if name in Experiment.__dataclass_fields__}  # fmt: skip
    known = {name: value for name, value in fields.items() if isinstance(value, (bool, int, float, str))}
    lacking = {name: value for name, value in known.items() if table[name].isna().any()}
    filled = {
        name: [value if one != one or one is None else one for one in table[name]] for name, value in lacking.items()
    }
    return table.assign(**filled)


def _variants(table: Frame) -> list[str]:
    """What a member is, in the words of the figures' table: ``relu``, ``relu + l2``, ``relu + layer norm``."""
    more = {"layer_norm": "layer norm", "dropout": "dropout {:g}", "head_reset": "last-layer reset"}

    def word(name: str, value: Any) -> str:
        return "" if value in ("none", False, 0.0) else more.get(name, "{}").format(value)

    fields = [table[name] for name in _VARIANT if name in table]
    known = {key: " + ".join(filter(None, (word(n, v) for n, v in zip(_VARIANT, key)))) for key in set(zip(*fields))}
    return [known[key] for key in zip(*fields)]


def _usual(table: Frame, figure: Figure) -> Frame:
    """Of several networks and sizes of a task, those of the paper, unless the figure says which it shows."""
    free = {*figure.where, getattr(figure.drawing, "lines", "")} | ({"epochs"} if "examples" in figure.where else set())
    usual = {**_USUAL, **({} if "variant" in free else _PLAIN)}
    for benchmark in table["benchmark"].unique():
        preset = BENCHMARKS.get(benchmark, {})
        for name, value in usual.items():
            own = table["benchmark"] == benchmark
            paper = own & (table[name] == preset.get(name, value))
            if name not in free and paper.any():
                table = table[paper | ~own]
    return table


def _without_repetitions(table: Frame, columns: Sequence[str]) -> Frame:
    """Of members that several runs hold, the one of most tasks; `columns` describe a member."""
    names = [name for name in columns if name not in ("member", "engine", "data_source")]
    last = table.groupby(["run", "member"])["task"].max().rename("last")
    who: Frame = table.drop_duplicates(["run", "member"])[["run", "member", *names]].join(last, on=["run", "member"])
    again = who.sort_values("last", ascending=False, kind="stable")
    again = again[again.duplicated(names)]
    gone = set(zip(again["run"], again["member"]))
    return table[[pair not in gone for pair in zip(table["run"], table["member"])]].reset_index(drop=True)


def _epochs(figure: Figure, opened: Sequence[AnyResults]) -> Frame:
    """Curves within tasks of every source that holds some.

    Raises:
        ValueError: if a source is a file, which holds none.
        StoreError: if none were stored.
    """
    import pandas

    tables = []
    for i, run in enumerate(opened):
        if isinstance(run, Archive):
            raise ValueError(
                f"{figure.title} needs curves within tasks, which files of results do not hold: got {run.path}. "
                "Give runs or sweeps that were trained with --epoch-curves."
            )
        tables.append(run.epochs().assign(run=i))
    return pandas.concat(tables, ignore_index=True)


def _sources(runs: Sequence[Results]) -> list[str]:
    """Names of runs and sweeps, those of one version together."""
    names: dict[str, list[str]] = {}
    for run in runs:
        for one in run.paths if isinstance(run, Sweep) else (run.path,):
            names.setdefault(version_of(open_results(one).env), []).append(name_of(Path(one)))
    return [f"{', '.join(places)} {version}" for version, places in names.items()]
