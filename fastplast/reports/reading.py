"""Runs and sweeps on disk -> one object of plain arrays and tables that every part of a report is made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastplast.drawing.settings import NOT_SETTINGS, Setting, settings_of
from fastplast.results import open_each, open_results
from fastplast.runs.files import StoreError
from fastplast.runs.results import Results
from fastplast.runs.run import WHENS, Run
from fastplast.runs.tables import described, measured
from fastplast.sweeps.sweep import Sweep, read_ids

if TYPE_CHECKING:
    import pandas

Readable = Run | Sweep | str | os.PathLike
_BOOKKEEPING = ("updates", "diverged", "diverged_step")


@dataclass(frozen=True)
class Part:
    """A run, or a shard of a sweep, and which of its members the report is about.

    Attributes:
        name: how the page calls it.
        run: its reader.
        numbers: of the members, in the run's own counting.
        ids: what identifies each member of the run in its sweep; None if it is in none.
    """

    name: str
    run: Run
    numbers: tuple[int, ...]
    ids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Divergence:
    """Where a member stopped.

    Attributes:
        task: from which on it is left out.
        update: its update that was not finite, counted from the run's beginning; None if that was not stored.
    """

    task: int
    update: int | None


@dataclass(frozen=True)
class ReportData:
    """What a report is made from; rows are members, in the order of settings and seeds.

    Attributes:
        title: of the page.
        parts: the runs.
        waiting: names of runs that were begun and hold no measurement yet.
        members: `M` rows: hyperparameters, ``seed``, ``part``, ``member``; ``id``: of a sweep's members what identifies
            them in it, of others their number as a text.
        varying: the hyperparameters that differ between members.
        settings: the rows of each setting and its label and colour.
        rows: of each setting.
        tasks: `[K]` their numbers.
        curves: (metric, ``"start"`` or ``"end"``) to `[M, K]`; NaN where there is no value, and from the task in which
            the member diverged.
        diverged: row to where it diverged.
        definitions: metric to its definition.
        solvers: how often each way to the Hessian's stable rank was taken.
    """

    title: str
    parts: tuple[Part, ...]
    waiting: tuple[str, ...]
    members: pandas.DataFrame
    varying: tuple[str, ...]
    settings: tuple[Setting, ...]
    rows: tuple[tuple[int, ...], ...]
    tasks: np.ndarray
    curves: dict[tuple[str, str], np.ndarray]
    diverged: dict[int, Divergence]
    definitions: dict[str, str]
    solvers: dict[str, int]


def open_readers(runs: Readable | Sequence[Readable]) -> list[Run | Sweep]:
    """Opens what is named; several sweep directories are one sweep.

    Args:
        runs: a run or a sweep, or several: readers or paths.

    Returns:
        Readers.

    Raises:
        ValueError: if nothing is named, or a file of exported results, which lacks configurations and spectra.
    """
    listed = [runs] if isinstance(runs, (Run, Sweep, str, os.PathLike)) else list(runs)
    if not listed:
        raise ValueError("runs must name at least one: got none. Name run directories, or sweeps.")
    paths = [run for run in listed if not isinstance(run, (Run, Sweep))]
    if len(paths) == len(listed):
        return [_with_spectra(run) for run in open_each(paths)]
    return [run if isinstance(run, (Run, Sweep)) else _with_spectra(open_results(run)) for run in listed]


def _with_spectra(run: Results) -> Run | Sweep:
    if not isinstance(run, (Run, Sweep)):
        raise ValueError(
            f"runs must be run directories, or sweeps: got the file {run.path}. `fastplast plot` draws it."
        )
    return run


def read(runs: Sequence[Run | Sweep]) -> ReportData:
    """Reads everything that a report shows but spectra.

    Args:
        runs: at least one.

    Returns:
        What was read.

    Raises:
        StoreError: if nothing was measured yet.
    """
    import pandas

    parts, waiting = _parts(runs)
    if not parts:
        raise StoreError(f"{runs[0].path} holds no metrics yet: its first task has not been measured.")
    tables = [part.run.metrics("arrow") for part in parts]
    frames = [_own_rows(part, table.to_pandas()) for part, table in zip(parts, tables)]
    members = pandas.concat(
        [_members(frames[i], described(tables[i]), parts[i]).assign(run=i) for i in range(len(parts))],
        ignore_index=True,
    )
    settings, _ = settings_of(members, [part.name for part in parts])
    order = {who: row for row, who in enumerate(_ordered(members, settings))}
    members["row"] = [order[int(run), int(member)] for run, member in zip(members["run"], members["member"])]
    members = members.sort_values("row").reset_index(drop=True).rename(columns={"run": "part"}).drop(columns="row")
    tasks = np.unique(np.concatenate([frame["task"].to_numpy() for frame in frames]))
    diverged = _divergences(frames, order)
    return ReportData(
        title=", ".join(run.path.resolve().name for run in runs),
        parts=tuple(parts),
        waiting=tuple(waiting),
        members=members,
        varying=tuple(_varying(members)),
        settings=tuple(settings),
        rows=tuple(tuple(sorted(order[who] for who in setting.members)) for setting in settings),
        tasks=tasks,
        curves=_curves(frames, [measured(table) for table in tables], order, tasks, diverged),
        diverged=diverged,
        definitions={name: text for part in parts for name, text in part.run.definitions.items()},
        solvers=_solvers(frames),
    )


def _parts(runs: Sequence[Run | Sweep]) -> tuple[list[Part], list[str]]:
    found: list[tuple[Run, list[int] | None]] = []
    waiting = []
    for run in runs:
        if isinstance(run, Run):
            found.append((run, None))
            continue
        chosen = run.chosen() if any(map(_begun, run.shards)) else []
        found += chosen
        waiting += [shard.path.name for shard in run.shards if not _begun(shard)]
    waiting += [run.path.name for run, numbers in found if numbers is None and not _begun(run)]
    found = [(run, numbers) for run, numbers in found if numbers is not None or _begun(run)]
    names = [run.path.resolve().name for run, _ in found]
    if len(set(names)) < len(names):
        names = [str(run.path) for run, _ in found]
    return [
        Part(name, run, tuple(range(len(run.members))))
        if numbers is None
        else Part(name, run, tuple(numbers), tuple(read_ids(run)))
        for name, (run, numbers) in zip(names, found)
    ], waiting


def _begun(run: Run) -> bool:
    return any((run.path / "metrics").glob("part-*.parquet"))


def _own_rows(part: Part, table: pandas.DataFrame) -> pandas.DataFrame:
    return table.loc[table["member"].isin(part.numbers)]


def _members(frame: pandas.DataFrame, columns: list[str], part: Part) -> pandas.DataFrame:
    """A row for each member, with the columns that describe it."""
    found: pandas.DataFrame = frame.loc[~frame["member"].duplicated(), columns]
    return found.assign(id=[str(number) if part.ids is None else part.ids[number] for number in found["member"]])


def _ordered(members: pandas.DataFrame, settings: Sequence[Setting]) -> list[tuple[int, int]]:
    by = members["seed"] if "seed" in members else members["member"]
    seeds = {(int(r), int(m)): seed for r, m, seed in zip(members["run"], members["member"], by)}
    return [who for setting in settings for who in sorted(setting.members, key=lambda who: (seeds[who], who))]


def _varying(members: pandas.DataFrame) -> list[str]:
    known = members.astype(object).where(members.notna(), None)
    names = [name for name in known.columns if name not in (*NOT_SETTINGS, "part")]
    return [name for name in names if known[name].map(repr).nunique() > 1]


def _divergences(frames: Sequence[pandas.DataFrame], order: dict[tuple[int, int], int]) -> dict[int, Divergence]:
    found = {}
    for part, frame in enumerate(frames):
        if "diverged" not in frame:
            continue
        for who, rows in frame.loc[frame["diverged"].eq(True)].groupby("member"):
            steps = [step for step in rows["diverged_step"] if step == step] if "diverged_step" in frame else []
            task = int(rows["task"].min())
            found[order[part, int(who)]] = Divergence(task, int(steps[0]) if steps else None)  # type: ignore[arg-type]
    return found


def _curves(
    frames: Sequence[pandas.DataFrame],
    columns: Sequence[list[str]],
    order: dict[tuple[int, int], int],
    tasks: np.ndarray,
    diverged: dict[int, Divergence],
) -> dict[tuple[str, str], np.ndarray]:
    curves: dict[tuple[str, str], np.ndarray] = {}
    for part, frame in enumerate(frames):
        for when in WHENS:
            table = frame.loc[frame["when"] == when]
            rows = np.array([order[part, int(member)] for member in table["member"]], int)
            places = np.searchsorted(tasks, table["task"].to_numpy())
            for name in columns[part]:
                values = None if name in _BOOKKEEPING else _numbers(table.loc[:, name])
                if values is None or np.isnan(values).all():
                    continue
                curve = curves.setdefault((name, when), np.full((len(order), len(tasks)), np.nan))
                curve[rows, places] = values
    for curve in curves.values():
        for row, where in diverged.items():
            curve[row, tasks >= where.task] = np.nan
    return {key: curve for key, curve in curves.items() if not np.isnan(curve).all() and not _only_before(key, curves)}


def mean_over_tasks(curve: np.ndarray) -> np.ndarray:
    """The mean of each member over the tasks in which it has a value.

    Args:
        curve: `[M, K]`; NaN where there is no value.

    Returns:
        `[M]`; NaN where there is none at all.
    """
    present = np.isfinite(curve)
    count = present.sum(1)
    return np.divide(np.where(present, curve, 0.0).sum(1), count, out=np.full(len(curve), np.nan), where=count > 0)


def _only_before(key: tuple[str, str], curves: dict[tuple[str, str], np.ndarray]) -> bool:
    """Weights are measured at task ends and once before task 0, which by itself is no curve."""
    name, when = key
    return when == "start" and (name, "end") in curves and not np.isfinite(curves[key][:, 1:]).any()


def _numbers(column: pandas.Series) -> np.ndarray | None:
    """Float64 with NaN for what is absent or not finite; None if the column holds texts."""
    present = column.notna().to_numpy()
    if not present.any():
        return None
    try:
        values = np.full(len(column), np.nan)
        values[present] = column.to_numpy()[present].astype(np.float64)
    except (ValueError, TypeError):
        return None
    values[~np.isfinite(values)] = np.nan
    return values


def _solvers(frames: Sequence[pandas.DataFrame]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for frame in frames:
        if "hessian_method" in frame:
            for name, count in frame["hessian_method"].dropna().value_counts().items():
                counts[str(name)] = counts.get(str(name), 0) + int(count)
    return counts
