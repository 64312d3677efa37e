"""How consistently an explanation goes with the error the way it is claimed to, over groups such as activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastplast.stats.associations import rank_correlation
from fastplast.stats.intervals import check_confidence

if TYPE_CHECKING:
    import numpy
    import pandas


@dataclass(frozen=True)
class Consistency:
    """The consistency score of an explanation over groups.

    Attributes:
        score: mean over groups of +1 where Spearman's correlation with the error has the claimed sign, -1 where it has
            the other, 0 where it is zero or the explanation does not vary.
        low: lower end of the bootstrap interval of the score; NaN where a group has fewer than three members.
        high: upper end, likewise.
        weakest: least claimed sign x correlation over groups: 1 is as claimed everywhere.
        agreeing: groups with the claimed sign.
        groups: groups that count: those of two or more members whose errors differ.
        n: members in them.
    """

    score: float
    low: float
    high: float
    weakest: float
    agreeing: int
    groups: int
    n: int


def consistency(
    members: pandas.DataFrame,
    column: str,
    direction: int,
    target: str = "mean_error",
    by: str = "activation",
    confidence: float = 0.95,
    resamples: int = 1999,
    seed: int = 0,
) -> Consistency:
    """Scores an explanation: does it go with the error the way it is claimed to, whatever the group?

    score = (1 / G) sum_g direction x sign(rho_g), rho_g Spearman's correlation over the members of group g. It is built
    on the sign-error of Jiang et al. 2020 ("Fantastic generalization measures and where to find them", arXiv
    1912.02178), taken over groups instead of pairs of hyperparameters, and on Dziugaite et al. 2020 ("In search of
    robust measures of generalization", arXiv 2010.11924), who ask for the worst group beside the mean: ``weakest``. The
    interval is the percentile bootstrap over members within each group.

    Limits: signs alone, so that a weak and a strong correlation count the same; G groups leave 2 G + 1 values, and the
    groups themselves are not resampled, so that the interval says nothing of other activations; what varies between
    members (seeds, or step sizes too) decides what is correlated; and a correlation is no cause.

    Args:
        members: one row per member, as ``member_means`` gives.
        column: the explanation's.
        direction: claimed sign, +1 or -1.
        target: the error's column.
        by: column that groups members.
        confidence: coverage, between 0 and 1.
        resamples: how often members are drawn anew.
        seed: of the draws.

    Returns:
        The score; all NaN if no group counts.

    Raises:
        ValueError: if the direction is not +1 or -1, or the confidence no coverage.
    """
    import numpy as np

    if direction not in (-1, 1):
        raise ValueError(f"direction must be +1 or -1: got {direction}.")
    check_confidence(confidence)
    groups = []
    for _, part in members.groupby(by, sort=False):
        pair = part[[column, target]].to_numpy(float)
        pair = pair[np.isfinite(pair).all(1)]
        if len(pair) > 1 and np.ptp(pair[:, 1]) > 0:
            groups.append(pair)
    found = [direction * rank_correlation(*pair.T) if np.ptp(pair[:, 0]) > 0 else 0.0 for pair in groups]
    signs = [direction * np.sign(_covariance(pair, np.arange(len(pair))[None]))[0] for pair in groups]

    def resample(pair: numpy.ndarray, rng: numpy.random.Generator) -> numpy.ndarray:
        return direction * _resampled_signs(pair, rng, resamples)

    return score_of(groups, signs, found, resample, confidence, seed)


def score_of(
    groups: Sequence[numpy.ndarray],
    signs: Sequence[float],
    strengths: Sequence[float],
    resample: Callable[[numpy.ndarray, numpy.random.Generator], numpy.ndarray],
    confidence: float,
    seed: int,
) -> Consistency:
    """The score of groups, with an interval where each has more than two members.

    Args:
        groups: what is drawn from, a row for each member.
        signs: of each group's correlation, times the claimed sign.
        strengths: each group's correlation, likewise.
        resample: from a group and a generator to the signs of members drawn anew, `[resamples]`.
        confidence: coverage.
        seed: of the draws.

    Returns:
        The score; all NaN without groups.
    """
    import numpy as np

    low = high = float("nan")
    if not groups:
        return Consistency(low, low, low, low, 0, 0, 0)
    if min(map(len, groups)) > 2:
        rng = np.random.default_rng(seed)
        scores = np.mean([resample(group, rng) for group in groups], axis=0)
        low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    agreeing = int(sum(sign > 0 for sign in signs))
    count = sum(map(len, groups))
    return Consistency(float(np.mean(signs)), low, high, float(min(strengths)), agreeing, len(groups), count)


def _resampled_signs(pair: numpy.ndarray, rng: numpy.random.Generator, resamples: int) -> numpy.ndarray:
    """Sign of Spearman's correlation of members drawn anew, `[resamples]`."""
    import numpy as np

    at_once = max(1, int(1e6 / len(pair)))  # 8 MB of draws
    sizes = [min(at_once, resamples - done) for done in range(0, resamples, at_once)]
    return np.concatenate(
        [np.sign(_covariance(pair, rng.integers(len(pair), size=(size, len(pair))))) for size in sizes]
    )


def _covariance(pair: numpy.ndarray, rows: numpy.ndarray) -> numpy.ndarray:
    """Covariance of the ranks of the chosen rows, times n; exact, ranks being halves of integers.

    Args:
        pair: `[n, 2]`.
        rows: `[R, n]`.

    Returns:
        `[R]`.
    """
    from scipy import stats

    first, second = (stats.rankdata(values[rows], axis=1) - (rows.shape[1] + 1) / 2 for values in pair.T)
    return (first * second).sum(1)
