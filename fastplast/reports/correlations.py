"""How each explanation of plasticity loss goes with the error at the end of the same task, activation by activation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastplast.config import ACTIVATIONS
from fastplast.plots.columns import axis_of
from fastplast.reports.reading import Results

EXPLANATIONS = (
    "hessian_srank",
    "hessian_sharpness",
    "hessian_negative_mass",
    "hessian_overlap",
    "weight_norm_l1",
    "init_distance_l1",
    "displacement_l1",
    "update_l1_mean",
    "update_l2_mean",
    "activation_entropy",
    "dormant_fraction",
    "dead_fraction",
)
_OF_LAYERS = ("weight_srank_", "feature_srank_")
_RESAMPLES = 2000


@dataclass(frozen=True)
class Line:
    """A least-squares line through points (explanation, error).

    Attributes:
        r: Pearson's correlation; NaN if either does not vary.
        low: lower end of its 95% interval; NaN with one member.
        high: upper end, likewise.
        slope: of the line.
        intercept: of the line.
        points: how many.
        least: smallest value of the explanation.
        most: largest value of the explanation.
    """

    r: float
    low: float
    high: float
    slope: float
    intercept: float
    points: int
    least: float
    most: float


def correlations(results: Results) -> list[dict[str, Any]]:
    """Every explanation with every activation.

    Args:
        results: of the runs.

    Returns:
        One entry each: ``name`` and ``when`` of the explanation, ``activation``, ``colour`` and the fields of ``Line``;
        empty if no error at task end was measured.
    """
    error = results.curves.get(("error", "end"))
    if error is None:
        return []
    found = []
    for name, when in explanations(results):
        for activation, rows in activations(results).items():
            line = least_squares(results.curves[name, when][rows], error[rows])
            if line is not None:
                colour = ACTIVATIONS.index(activation) if activation in ACTIVATIONS else 0
                entry = {"name": name, "when": when, "activation": activation, "colour": colour}
                found.append(entry | vars(line))
    return found


def explanations(results: Results) -> list[tuple[str, str]]:
    """The metrics that are explanations, each at the time it is usually read at."""
    names = list(dict.fromkeys(name for name, _ in results.curves))
    chosen = [*EXPLANATIONS, *(name for name in names if name.startswith(_OF_LAYERS))]
    keys = [(name, when) for name in chosen for when in (axis_of(name).when, "end", "start")]
    firsts: dict[str, str] = {}
    for name, when in keys:
        if (name, when) in results.curves:
            firsts.setdefault(name, when)
    return list(firsts.items())


def activations(results: Results) -> dict[str, list[int]]:
    """The rows of every activation, in the order of the palette; all of them where none is known."""
    if "activation" not in results.members:
        return {"all": list(range(len(results.members)))}
    column = results.members["activation"].fillna("other").astype(str)
    known = [name for name in ACTIVATIONS if (column == name).any()]
    others = sorted(set(column) - set(known))
    return {name: np.flatnonzero(column == name).tolist() for name in (*known, *others)}


def least_squares(x: np.ndarray, y: np.ndarray) -> Line | None:
    """The line, Pearson's correlation, and its percentile bootstrap interval over members.

    Points of one member are not independent of each other, so members are drawn anew, not points.

    Args:
        x: `[M, K]`; NaN where there is no value.
        y: `[M, K]`, likewise.

    Returns:
        The line; None with fewer than three points or where the explanation does not vary.
    """
    present = np.isfinite(x) & np.isfinite(y)
    if present.sum() < 3 or np.ptp(x[present]) == 0:
        return None
    middle, spread, level = x[present].mean(), np.ptp(x[present]), y[present].mean()
    u, v = np.where(present, (x - middle) / spread, 0.0), np.where(present, y - level, 0.0)
    sums = np.stack([present.sum(1), u.sum(1), v.sum(1), (u * u).sum(1), (v * v).sum(1), (u * v).sum(1)], axis=1)
    r, slope = _fit(sums.sum(0))
    members = sums[sums[:, 0] > 0]
    low = high = np.nan
    if len(members) > 1 and np.isfinite(r):
        drawn = _fit(_draws(len(members)) @ members)[0]
        low, high = np.quantile(drawn[np.isfinite(drawn)], [0.025, 0.975])
    slope = float(slope) / spread
    least, most = x[present].min(), x[present].max()
    return Line(
        float(r),
        float(low),
        float(high),
        slope,
        float(level - slope * middle),
        int(present.sum()),
        float(least),
        float(most),
    )


@lru_cache(maxsize=4)
def _draws(n: int) -> np.ndarray:
    """`[_RESAMPLES, n]`: how often each of n members is drawn."""
    drawn = np.random.default_rng(0).integers(n, size=(_RESAMPLES, n)) + n * np.arange(_RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * _RESAMPLES).reshape(_RESAMPLES, n).astype(np.float64)


def _fit(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation and slope from n, sum u, sum v, sum u², sum v², sum uv in the last axis."""
    n, u, v, uu, vv, uv = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance, variance, other = uv - u * v / n, uu - u * u / n, vv - v * v / n
        return covariance / np.sqrt(variance * other), covariance / variance
