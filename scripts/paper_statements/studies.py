"""Stored results as studies: the runs of one file with one step size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import fastplast as fp

NONLINEAR = ("relu", "leaky_relu", "tanh")
SETTING = ["activation", "method", "reduction", "strength", "epochs"]


@dataclass(frozen=True, eq=False)
class Study:
    """Runs that differ in seed, activation, method or updates a task.

    Attributes:
        name: of the file in docs/results.
        rate: step size.
        rows: as ``metrics()`` has them.
    """

    name: str
    rate: float
    rows: pd.DataFrame

    def only(self, name: str) -> object:
        """The one value of a column; None if it has several, or there is none."""
        values = self.rows[name].unique() if name in self.rows else []
        return values[0] if len(values) == 1 else None

    def has(self, **fields: object) -> bool:
        """Whether any member is of a setting."""
        return bool(len(self.of(**fields)))

    def of(self, **fields: object) -> pd.DataFrame:
        """Rows of a setting."""
        chosen = np.ones(len(self.rows), bool)
        for name, value in fields.items():
            chosen &= (self.rows[name] == value).to_numpy()
        return self.rows[chosen]

    def values(self, name: str) -> list:
        """What a column holds, in order of appearance."""
        return list(dict.fromkeys(self.rows[name]))

    @property
    def is_unregularised(self) -> bool:
        """Whether activations are all that is compared."""
        return self.values("method") == ["none"] and self.only("epochs") is not None

    @property
    def step(self) -> float:
        """Between neighbouring errors."""
        return 1 / int(self.rows["examples"].iloc[0])

    @property
    def chance(self) -> float:
        """Error of a network that has learned nothing."""
        return 0.5 if self.only("benchmark") in ("class_pairs", "continual_imagenet") else 0.9

    def curve(self, column: str, when: str, **setting: object) -> pd.DataFrame:
        """`[seeds, tasks]` of a column, ``{layer}`` the last hidden one, of the tasks that every seed has ended."""
        return _curve(self, column, when, tuple(setting.items()))

    def __str__(self) -> str:
        ends = self.rows[self.rows["when"] == "end"]
        tasks = sorted({int(count) for count in ends.groupby("member")["task"].nunique()})
        span = f"{tasks[0]}" if len(tasks) == 1 else f"{tasks[0]} to {tasks[-1]}"
        return f"`{self.name}`, step size {self.rate:g}, {self.rows['seed'].nunique()} seeds, {span} tasks"


@cache
def load_studies(folder: Path) -> tuple[Study, ...]:
    """All studies of a folder, in the order of names and step sizes."""
    studies = []
    for path in sorted(folder.glob("*.parquet")):
        rows = fp.load(path).metrics()
        studies += [Study(path.stem, float(rate), part) for rate, part in rows.groupby("learning_rate")]
    return tuple(studies)


@cache
def _curve(study: Study, column: str, when: str, setting: tuple[tuple[str, object], ...]) -> pd.DataFrame:
    rows = study.of(**dict(setting))
    column = last_layer(rows, column)
    if column not in rows:
        return pd.DataFrame()
    ended = rows[rows["when"] == "end"].pivot(index="seed", columns="task", values="error").dropna(axis=1).columns
    table = rows[rows["when"] == when].pivot(index="seed", columns="task", values=column).astype(float)
    return table.reindex(columns=ended)


def quarter(values: pd.DataFrame, number: int) -> pd.Series:
    """Each seed's mean over the first (0), second, third or last (3) quarter of tasks."""
    size = max(1, values.shape[1] // 4)
    first = {0: 0, 3: values.shape[1] - size}.get(number, number * size)
    return values.iloc[:, first : first + size].mean(axis=1)


def common(tables: Iterable[pd.DataFrame]) -> list[pd.DataFrame]:
    """Tables with the seeds and tasks that all of them have."""
    tables = list(tables)
    seeds, tasks = tables[0].index, tables[0].columns
    for table in tables[1:]:
        seeds, tasks = seeds.intersection(table.index), tasks.intersection(table.columns)
    return [table.loc[seeds, tasks] for table in tables]


def last_layer(rows: pd.DataFrame, column: str) -> str:
    """A column with the name of the last hidden layer in place of ``{layer}``."""
    layers = [name.removeprefix("feature_srank_") for name in rows if name.startswith("feature_srank_")]
    return column.format(layer=layers[-1] if layers else "")
