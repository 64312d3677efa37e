"""How an explanation goes with the error from task to task within members, which differences between members hide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastplast.stats.associations import associate
from fastplast.stats.explanations import EXPLANATIONS, Explanation, column_of
from fastplast.stats.intervals import mean_interval

if TYPE_CHECKING:
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
    key = [name for name in ("run", "member") if name in metrics]
    rows = []
    for group, part in metrics.groupby(by, sort=False):
        errors = _curves(part, "error", "end", key)
        for name, explanation in explanations.items():
            column = column_of(explanation, metrics)
            rhos = [float("nan")]
            if column in part and not errors.empty:
                values = _curves(part, column, explanation.when, key).reindex_like(errors)
                rhos = [associate(x, y).spearman for x, y in zip(values.to_numpy(), errors.to_numpy())]
            found = mean_interval(rhos, confidence)
            numbers = {"rho": float(found.estimate), "low": float(found.low), "high": float(found.high)}
            rows.append({"explanation": name, by: group} | numbers | {"n": int(found.n)})
    return pd.DataFrame(rows)


def _curves(rows: pandas.DataFrame, column: str, when: str, key: list[str]) -> pandas.DataFrame:
    """`[members, tasks]`."""
    return rows[rows["when"] == when].pivot(index=key, columns="task", values=column).astype(float)
