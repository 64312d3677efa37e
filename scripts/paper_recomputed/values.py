"""Recomputes what the rules of docs/paper.md rest on, from their words, with pandas and scipy alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

LOGS = {"hessian_srank": 1.0, "displacement_l1": 1e-9, "update_l1_mean": 1e-9}
INF = np.inf
DIFFERENCE = (-1, 1)


class Number:
    """A value of each seed, the claim on their mean, and what is possible."""

    def __init__(self, values, low=-INF, high=INF, span=None, grain=0.0, premise=True, absent=False):
        self.x = pd.Series(values, dtype=float).dropna().to_numpy()
        self.low, self.high, self.span, self.grain = low, high, span, grain
        self.premise, self.absent, self.n = premise, absent, len(self.x)
        self.mean = self.x.mean() if self.n else np.nan
        self.holds = low < self.mean < high

    def to_scale(self, value):
        """Logit of where a value lies in what is possible, and the derivative there."""
        if self.span is None:
            return value, 1.0
        width = self.span[1] - self.span[0]
        edge = max(self.grain, 1e-9) / (2 * width)
        u = min(max((value - self.span[0]) / width, edge), 1 - edge)
        return np.log(u) - np.log1p(-u), 1 / (width * u * (1 - u))

    def error(self):
        """Standard error on the scale."""
        return max(self.x.std(ddof=1), self.grain / np.sqrt(12)) / np.sqrt(self.n) * self.to_scale(self.mean)[1]

    def ends(self):
        """95% interval."""
        center, half = self.to_scale(self.mean)[0], stats.t.isf(0.025, self.n - 1) * self.error()
        if self.span is None:
            return center - half, center + half
        back = [self.span[0] + (self.span[1] - self.span[0]) / (1 + np.exp(-v)) for v in (center - half, center + half)]
        return min(back[0], self.mean), max(back[1], self.mean)

    def p(self):
        """Two-sided, at the edge of the claim that is nearest to being crossed."""
        sides = [edge for edge in (self.low, self.high) if np.isfinite(edge)]
        if not self.holds:
            sides = [self.low] if self.mean <= self.low else [self.high]
        found = []
        for edge in sides:
            gap, error = self.to_scale(edge)[0] - self.to_scale(self.mean)[0], self.error()
            found.append(float(gap == 0) if gap == 0 or error == 0 else 2 * stats.t.sf(abs(gap / error), self.n - 1))
        return max(found)

    def silent(self):
        """Why it has no verdict."""
        if self.absent:
            return "not run"
        return "premise fails" if not self.premise else "too few seeds" if self.n < 5 else ""


class Runs:
    """The runs of a file with one step size."""

    def __init__(self, table):
        self.table, self.kept = table, {}
        self.n = int(table["examples"].iloc[0])
        self.activations = list(table["activation"].drop_duplicates())
        self.chance = 0.5 if table["benchmark"].iloc[0] == "class_pairs" else 0.9
        layers = [c.removeprefix("feature_srank_") for c in table.columns if c.startswith("feature_srank_")]
        self.layer = layers[-1]

    def seen(self, column, when="end", **own):
        """`[seeds, tasks]`."""
        key = column, when, tuple(sorted(own.items()))
        if key not in self.kept:
            t = self.table
            for name, value in own.items():
                t = t[t[name] == value]
            column = column.replace("{layer}", self.layer)
            full = wide_of(t[t["when"] == "end"], "error").dropna(axis=1)
            wide = wide_of(t[t["when"] == when], column) if column in t else full * np.nan
            self.kept[key] = wide.reindex(index=full.index, columns=full.columns)
        return self.kept[key]

    def grain(self):
        """Between two errors."""
        return 1 / self.n

    def learned(self, **own):
        """Whether the first task is learned."""
        return self.seen("error", **own).iloc[:, 0].mean() < self.chance - 0.05

    def rise(self, low=0.0, high=INF, **own):
        """Last quarter of the error less the first."""
        e = self.seen("error", **own)
        return Number(part(e, 4) - part(e, 1), low, high, DIFFERENCE, self.grain(), self.learned(**own))

    def loses(self, **own):
        """Whether the error certainly rises; with few seeds, in each by 0.05."""
        r = self.rise(**own)
        return r.premise and (bool((r.x > 0.05).all()) if r.n < 5 else bool(r.holds and r.p() < 0.05))

    def settings(self, activation, method):
        """(reduction, strength) of a method."""
        t = self.table[(self.table["activation"] == activation) & (self.table["method"] == method)]
        return sorted(set(zip(t["reduction"], t["strength"])), key=lambda s: (s[0], -s[1]))


def wide_of(table, column):
    """`[seeds, tasks]` of a column."""
    return table.pivot_table(index="seed", columns="task", values=column, dropna=False)


def part(wide, number):
    """Mean over a quarter of the tasks, 1 to 4."""
    count = max(1, wide.shape[1] // 4)
    start = {1: 0, 4: wide.shape[1] - count}.get(number, (number - 1) * count)
    return wide.iloc[:, start : start + count].mean(axis=1)


def moved(r, column, when, low, high, first=1, last=4, premise=True, **own):
    """Change between quarters."""
    w = r.seen(column, when, **own)
    w = w.iloc[:, 1:] if when == "start" else w
    if w.isna().all(axis=None):
        return Number([], absent=True)
    a, b = part(w, first), part(w, last)
    if column in LOGS:
        return Number(np.log2(np.maximum(b, LOGS[column]) / np.maximum(a, LOGS[column])), low, high, premise=premise)
    return Number(b - a, low, high, DIFFERENCE if column == "hessian_overlap" else None, 1e-6, premise)


def gap(r, column, when, one, two, low, high, premise=True):
    """Difference of two settings in the last quarter of what both have."""
    a, b = r.seen(column, when, **one), r.seen(column, when, **two)
    a, b = a.align(b, join="inner")
    if when == "start":
        a, b = a.iloc[:, 1:], b.iloc[:, 1:]
    x, y = part(a, 4), part(b, 4)
    if column == "hessian_srank":
        return Number(np.log2(np.maximum(x, 1.0) / np.maximum(y, 1.0)), low, high, premise=premise)
    bounded = column in ("error", "online_error")
    return Number(x - y, low, high, DIFFERENCE if bounded else None, r.grain() if bounded else 0.0, premise)


def rank_correlations(x, y):
    """Spearman's within each seed."""
    x, y = x.align(y, join="inner")
    found = {}
    for seed in x.index:
        flat = x.loc[seed].nunique() < 2 or y.loc[seed].nunique() < 2
        found[seed] = np.nan if flat else np.corrcoef(stats.rankdata(x.loc[seed]), stats.rankdata(y.loc[seed]))[0, 1]
    return pd.Series(found, dtype=float)


def grain_of_rho(count):
    """Between two values of Spearman's correlation."""
    return 12 / (count * (count**2 - 1))


def goes(r, column, when, sign, target="error", **own):
    """Spearman of changes from task to task."""
    x, y = r.seen(column, when, **own), r.seen(target, **own)
    if x.isna().all(axis=None):
        return Number([], absent=True)
    low, high = (0, INF) if sign > 0 else (-INF, 0)
    premise = r.loses(**own) if target == "error" else True
    rho = rank_correlations(x.diff(axis=1).iloc[:, 1:], y.diff(axis=1).iloc[:, 1:])
    return Number(rho, low, high, DIFFERENCE, grain_of_rho(y.shape[1]), premise)


def tilt(r, column, when, low, high, **own):
    """Slope of the measurement on the error within each seed."""
    x, y = r.seen("error", **own), r.seen(column, when, **own)
    found = []
    for seed in x.index:
        fits = x.loc[seed].nunique() > 1 and y.loc[seed].notna().all()
        found.append(
            np.nan if not fits else 0.0 if y.loc[seed].nunique() == 1 else np.polyfit(x.loc[seed], y.loc[seed], 1)[0]
        )
    return Number(found, low, high, premise=r.loses(**own))


def crossing(w):
    """Task at which half of the way from the first to the last quarter is made."""
    a, b = part(w, 1), part(w, 4)
    found = {}
    for seed in w.index:
        over = np.flatnonzero(w.loc[seed].to_numpy() >= (a[seed] + b[seed]) / 2)
        found[seed] = w.columns[over[0]] if b[seed] > a[seed] and len(over) else np.nan
    return pd.Series(found, dtype=float)


def first_bad(w):
    """First task that ends above 0.1, or their number."""
    found = {s: next((i for i, v in enumerate(w.loc[s]) if v > 0.1), w.shape[1]) for s in w.index}
    return pd.Series(found, dtype=float)


def signed(direction):
    """The half line of a direction."""
    return (0.0, INF) if direction > 0 else (-INF, 0.0)
