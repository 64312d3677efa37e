"""The least-squares line through points of all members and tasks together, with an interval that resamples members."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

_RESAMPLES = 2000


@dataclass(frozen=True)
class Line:
    """A least-squares line through points (x, y).

    Attributes:
        r: Pearson's correlation; NaN if either does not vary.
        low: lower end of its 95% interval; NaN with one member.
        high: upper end, likewise.
        slope: of the line.
        intercept: of the line.
        points: how many.
        least: smallest value of x.
        most: largest value of x.
    """

    r: float
    low: float
    high: float
    slope: float
    intercept: float
    points: int
    least: float
    most: float


def least_squares(x: numpy.ndarray, y: numpy.ndarray) -> Line | None:
    """The line, Pearson's correlation, and its percentile bootstrap interval over members.

    Points of one member are not independent of each other, so members are drawn anew, not points.

    Args:
        x: `[M, K]`; NaN where there is no value.
        y: `[M, K]`, likewise.

    Returns:
        The line; None with fewer than three points or where x does not vary.
    """
    import numpy as np

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
def _draws(n: int) -> numpy.ndarray:
    """`[_RESAMPLES, n]`: how often each of n members is drawn."""
    import numpy as np

    drawn = np.random.default_rng(0).integers(n, size=(_RESAMPLES, n)) + n * np.arange(_RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * _RESAMPLES).reshape(_RESAMPLES, n).astype(np.float64)


def _fit(sums: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Correlation and slope from n, sum u, sum v, sum u², sum v², sum uv in the last axis."""
    # Not scipy.stats.linregress, which takes one sample at a time: here are thousands, of sums over members.
    import numpy as np

    n, u, v, uu, vv, uv = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance, variance, other = uv - u * v / n, uu - u * u / n, vv - v * v / n
        return covariance / np.sqrt(variance * other), covariance / variance
