"""Means over members with their uncertainty. NaN is a member that has no value; `n` counts those that have one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastplast.text import closest

if TYPE_CHECKING:
    import numpy
    from numpy.typing import ArrayLike

STATISTICS = ("mean", "iqm")


@dataclass(frozen=True)
class Interval:
    """An estimate over members and its confidence interval.

    Attributes:
        estimate: `[...]`; NaN where no member has a value.
        low: `[...]`, lower end; NaN where fewer than two members have a value.
        high: `[...]`, upper end, likewise.
        n: `[...]` int64, the members that have a value.
    """

    estimate: numpy.ndarray
    low: numpy.ndarray
    high: numpy.ndarray
    n: numpy.ndarray


def check_confidence(confidence: float) -> None:
    """Checks a coverage.

    Args:
        confidence: as given.

    Raises:
        ValueError: if it is none.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1: got {confidence}. Say 0.95 for 95%.")


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean over members with Student's t interval: mean ± t((1 + confidence) / 2, n - 1) s / sqrt(n).

    Args:
        values: `[M, ...]`, for example members x tasks.
        confidence: coverage, between 0 and 1.

    Returns:
        `[...]`.
    """
    import numpy as np
    from scipy import special

    x, n = _with_counts(values, confidence)
    mean = np.divide(np.where(np.isnan(x), 0.0, x).sum(0), n, out=np.full(n.shape, np.nan), where=n > 0)
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite value has a mean, and no interval
        squares = np.where(np.isnan(x), 0.0, (x - mean) ** 2).sum(0)
    variance = np.divide(squares, n - 1, out=np.full(n.shape, np.nan), where=n > 1)
    # stdtrit is the quantile of Student's t: that of scipy.stats, which takes a second to import.
    half = special.stdtrit(np.maximum(n - 1, 1), (1 + confidence) / 2) * np.sqrt(variance / np.maximum(n, 1))
    return Interval(mean, mean - half, mean + half, n)


def within_range(found: Interval, least: float = -math.inf, most: float = math.inf) -> Interval:
    """A t interval of a mean whose ends lie where its quantity can: an error in [0, 1], a norm above 0.

    With h the half width of the interval of the mean m, the ends are those of the interval of a transformed mean, by
    the delta method: of arcsin sqrt(p), p = (m - least) / (most - least), with half width
    h / (2 (most - least) sqrt(p (1 - p))), which ends at 0 and pi / 2; where only `least` is finite, of
    sqrt(m - least), with h / (2 sqrt(m - least)). They are close to m - h and m + h where h is small, and m lies
    between them.

    Args:
        found: of ``mean_interval``.
        least: the smallest value that the quantity can have.
        most: the greatest.

    Returns:
        The same estimate with ends in [least, most]; a mean outside of them keeps its interval.

    Raises:
        ValueError: if `most` is finite and `least` is not, or they are in the wrong order.

    Reference:
        Bartlett 1947, The use of transformations, Biometrics 3.
    """
    import numpy as np

    if not least < most or (math.isinf(least) and math.isfinite(most)):
        raise ValueError(f"least must lie below most, and be finite where most is: got {least} and {most}.")
    if math.isinf(least):
        return found
    half, above, width = found.high - found.estimate, found.estimate - least, most - least
    with np.errstate(invalid="ignore", divide="ignore"):
        if math.isinf(most):
            middle, shift, furthest = np.sqrt(above), half / (2 * np.sqrt(above)), np.inf
        else:
            p = above / width
            middle, shift, furthest = np.arcsin(np.sqrt(p)), half / (2 * width * np.sqrt(p * (1 - p))), np.pi / 2
        low, high = (np.clip(middle + one, 0, furthest) for one in (-shift, shift))
        low, high = (least + (one**2 if math.isinf(most) else width * np.sin(one) ** 2) for one in (low, high))
    inside = (above > 0) & (above < width) & (half > 0)
    return Interval(found.estimate, np.where(inside, low, found.low), np.where(inside, high, found.high), found.n)


def interquartile_mean(values: ArrayLike) -> numpy.ndarray:
    """Mean of the middle half of the members: of n values, the floor(n / 4) least and greatest are left out.

    Args:
        values: `[M, ...]`.

    Returns:
        `[...]`; NaN where no member has a value.

    Reference:
        Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv 2108.13264.
    """
    # Not scipy.stats.trim_mean, which leaves out as many where members have no value.
    import numpy as np

    x, n = _with_counts(values)
    ordered = np.sort(x, axis=0)  # NaN comes last
    rank = np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
    middle = (rank >= n // 4) & (rank < n - n // 4)
    total, count = np.where(middle, ordered, 0.0).sum(0), middle.sum(0)
    return np.divide(total, count, out=np.full(n.shape, np.nan), where=count > 0)


def bootstrap_interval(
    values: ArrayLike, statistic: str = "mean", confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """An estimate over members with its percentile bootstrap interval.

    Args:
        values: `[M, ...]`, for example members x tasks.
        statistic: ``"mean"`` or ``"iqm"``, the interquartile mean.
        confidence: coverage, between 0 and 1.
        resamples: how often members are drawn anew.
        seed: of the draws; each entry of `[...]` sees the same draws of members.

    Returns:
        `[...]`.

    Raises:
        ValueError: if the statistic is unknown.

    Reference:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    import numpy as np

    if statistic not in STATISTICS:
        raise ValueError(f"statistic must be a known name: got {statistic!r}. {closest(statistic, STATISTICS)}")
    x, n = _with_counts(values, confidence)
    flat = x.reshape(len(x), -1)
    low, high = (np.full(flat.shape[1], np.nan) for _ in range(2))
    # Entries that lack the same members are resampled together.
    patterns, which = np.unique(np.isnan(flat), axis=1, return_inverse=True)
    for index, missing in enumerate(patterns.T):
        if (~missing).sum() > 1:
            entries = np.flatnonzero(which.reshape(-1) == index)
            low[entries], high[entries] = _percentiles(
                flat[np.ix_(~missing, entries)], statistic, confidence, resamples, seed
            )
    estimate = mean_interval(x).estimate if statistic == "mean" else interquartile_mean(x)
    return Interval(estimate, low.reshape(n.shape), high.reshape(n.shape), n)


def _percentiles(x: numpy.ndarray, statistic: str, confidence: float, resamples: int, seed: int) -> numpy.ndarray:
    # Not scipy.stats.bootstrap, whose argument for the seed changed its name, and which takes a second to import.
    import numpy as np

    rng = np.random.default_rng(seed)
    at_once = max(1, int(1e6 / x.size))  # 8 MB of draws
    estimates = []
    for done in range(0, resamples, at_once):
        drawn = rng.integers(len(x), size=(min(at_once, resamples - done), len(x)))
        sample = x[drawn.T]  # [M, resamples, entries]
        estimates.append(sample.mean(0) if statistic == "mean" else interquartile_mean(sample))
    return np.quantile(np.concatenate(estimates), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)


def _with_counts(values: ArrayLike, confidence: float = 0.95) -> tuple[numpy.ndarray, numpy.ndarray]:
    import numpy as np

    x = np.asarray(values, dtype=np.float64)
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"values must be `[M, ...]` with at least one member: got shape {x.shape}.")
    check_confidence(confidence)
    return x, (~np.isnan(x)).sum(0)
