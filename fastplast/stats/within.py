"""How an explanation goes with the error from task to task within members, which differences between members hide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastplast.stats.associations import rank_correlation
from fastplast.stats.consistency import Consistency, score_of
from fastplast.stats.explanations import EXPLANATIONS, Explanation, column_of
from fastplast.stats.intervals import check_confidence, mean_interval

if TYPE_CHECKING:
    import numpy
    import pandas


def task_correlations(
    metrics: pandas.DataFrame,
    explanations: Mapping[str, Explanation] | None = None,
    by: str = "activation",
    confidence: float = 0.95,
) -> pandas.DataFrame:
    """Spearman's correlation over tasks of each explanation with the error at task end: its mean over members.

    The member is the unit: each has one correlation over its tasks, and the interval is Student's t over members, so
    that tasks of one member, which are no independent observations, are not counted as such. Trends count: what rises
    from task to task goes with whatever else rises.

    Args:
        metrics: of a run or sweep, or of several, with a column ``run``.
        explanations: name to what; all of ``EXPLANATIONS`` if None.
        by: column that groups members.
        confidence: coverage of the intervals.

    Returns:
        One row per explanation and group: ``explanation``, the group, ``rho``, ``low``, ``high`` and ``n``, the members
        in which both vary. NaN where there is none, or, of the interval, one.
    """
    import pandas as pd

    explanations = EXPLANATIONS if explanations is None else explanations
    rows = []
    for group, part in metrics.groupby(by, sort=False):
        errors = _errors(part)
        for name, explanation in explanations.items():
            column = column_of(explanation, metrics)
            found = mean_interval(_rhos(part, column, explanation.when, errors) or [float("nan")], confidence)
            numbers = {"rho": float(found.estimate), "low": float(found.low), "high": float(found.high)}
            rows.append({"explanation": name, by: group} | numbers | {"n": int(found.n)})
    return pd.DataFrame(rows)


def task_consistency(
    metrics: pandas.DataFrame,
    explanation: Explanation,
    by: str = "activation",
    confidence: float = 0.95,
    resamples: int = 1999,
    seed: int = 0,
) -> Consistency:
    """Scores an explanation over tasks: does it go with the error the way it is claimed to, whatever the group?

    As ``consistency``, with rho_g the mean over the members of group g of Spearman's correlation over their tasks, as
    ``task_correlations`` has it; the interval is the percentile bootstrap over members within each group. Members
    count in which the error varies from task to task; where the explanation varies in none of them, its sign is 0.

    Args:
        metrics: of a run or sweep, or of several, with a column ``run``.
        explanation: with its claimed sign.
        by: column that groups members.
        confidence: coverage, between 0 and 1.
        resamples: how often members are drawn anew.
        seed: of the draws.

    Returns:
        The score; ``groups`` and ``n`` are those with an error that varies. All NaN if there is none.

    Raises:
        ValueError: if the confidence is no coverage.
    """
    import numpy as np

    check_confidence(confidence)
    column, groups = column_of(explanation, metrics), []
    for _, part in metrics.groupby(by, sort=False):
        errors = _errors(part)
        errors = errors.loc[errors.max(axis=1) > errors.min(axis=1)]
        if len(errors):
            rhos = _rhos(part, column, explanation.when, errors) or [np.nan] * len(errors)
            groups.append(explanation.direction * np.asarray(rhos, float))
    signs = [_sign(rhos[None])[0] for rhos in groups]
    means = [np.nan_to_num(rhos).sum() / max(1, np.isfinite(rhos).sum()) for rhos in groups]

    def resample(rhos: numpy.ndarray, rng: numpy.random.Generator) -> numpy.ndarray:
        return _sign(rhos[rng.integers(len(rhos), size=(resamples, len(rhos)))])

    return score_of(groups, signs, means, resample, confidence, seed)


def _sign(rhos: numpy.ndarray) -> numpy.ndarray:
    """`[R, n]` to the sign of each row's mean; members without a correlation tip none, rounding is no sign."""
    import numpy as np

    return np.sign(np.round(np.nansum(rhos, axis=1), 12))


def _errors(rows: pandas.DataFrame) -> pandas.DataFrame:
    return _curves(rows, "error", "end")


def _rhos(rows: pandas.DataFrame, column: str, when: str, errors: pandas.DataFrame) -> list[float]:
    """Spearman's correlation over tasks of every member of `errors`; empty where there is nothing to correlate."""
    if column not in rows or errors.empty:
        return []
    values = _curves(rows, column, when).reindex_like(errors)
    return [rank_correlation(x, y) for x, y in zip(values.to_numpy(), errors.to_numpy())]


def _curves(rows: pandas.DataFrame, column: str, when: str) -> pandas.DataFrame:
    """`[members, tasks]`."""
    key = [name for name in ("run", "member") if name in rows]
    return rows[rows["when"] == when].pivot(index=key, columns="task", values=column).astype(float)
