"""The explanations of plasticity loss, and one row per member: its mean error and its means of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastplast.runs import tables

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Explanation:
    """What is said to go with plasticity loss.

    Attributes:
        label: for people.
        column: of the metrics; ``{layer}`` stands for the last hidden layer.
        when: ``"start"`` or ``"end"`` of the task.
        direction: claimed sign of its correlation with the error: +1 if more of it is said to go with more, else -1.
    """

    label: str
    column: str
    when: str
    direction: int


# Section 3 of arXiv 2312.00246 lists the earlier ones with their claims; section 4 adds the Hessian's.
EXPLANATIONS: dict[str, Explanation] = {
    "update_norm": Explanation("update norm", "displacement_l1", "end", -1),
    "weight_norm": Explanation("weight norm", "weight_norm_l1", "end", +1),
    "weight_srank": Explanation("weight stable rank", "weight_srank_{layer}", "end", -1),
    "feature_srank": Explanation("feature stable rank", "feature_srank_{layer}", "end", -1),
    "activation_entropy": Explanation("activation entropy", "activation_entropy", "end", -1),
    "dormant_fraction": Explanation("dormant units", "dormant_fraction", "end", +1),
    "hessian_srank": Explanation("Hessian stable rank", "hessian_srank", "start", -1),
}


def column_of(explanation: Explanation, metrics: pandas.DataFrame) -> str:
    """The column of the metrics that an explanation is read from.

    Args:
        explanation: which.
        metrics: of one network.

    Returns:
        Its name, with the last hidden layer's where there is one for every layer; it need not be there.
    """
    layers = [name.removeprefix("feature_srank_") for name in metrics.columns if name.startswith("feature_srank_")]
    return explanation.column.format(layer=layers[-1] if layers else "")


def member_means(
    metrics: pandas.DataFrame,
    explanations: Mapping[str, Explanation] | None = None,
    first_task: int = 0,
    described: Sequence[str] | None = None,
) -> pandas.DataFrame:
    """One row per member: what describes it, its mean error, and its mean over tasks of each explanation.

    The mean error is the mean over tasks K of J_K, the error at task end. A member that diverged has no means: what it
    did before is not what it did over all tasks.

    Args:
        metrics: of a run or sweep, or of several, with a column ``run``.
        explanations: name to what; all of ``EXPLANATIONS`` if None. One that was not measured has NaN.
        first_task: tasks before it are left out.
        described: columns that describe a member; those before ``task`` if None.

    Returns:
        `described`, then ``diverged``, ``tasks``, ``mean_error`` and the explanations.

    Raises:
        ValueError: if no task has ended from `first_task` on.
    """
    explanations = EXPLANATIONS if explanations is None else explanations
    rows: pandas.DataFrame = metrics[metrics["task"] >= first_task]  # type: ignore[assignment]
    ended: pandas.DataFrame = rows[rows["when"] == "end"]  # type: ignore[assignment]
    if ended.empty:
        raise ValueError(f"metrics must have a task that ended from task {first_task} on: got none. Train more tasks.")
    key = [name for name in ("run", "member") if name in metrics]
    described = [name for name in described or tables.described(metrics) if name not in key]
    table = ended.groupby(key)[described].first()
    for name in described:  # of a column that is null for every member, first() loses the type
        table[name] = table[name].astype(metrics[name].dtype)  # type: ignore[call-overload]
    means = ended.groupby(key)
    table["diverged"] = means["diverged"].any() if "diverged" in ended else False
    table["tasks"] = means["task"].nunique()
    table["mean_error"] = means["error"].mean() if "error" in ended else float("nan")
    for name, explanation in explanations.items():
        column = column_of(explanation, metrics)
        values: pandas.DataFrame = rows[rows["when"] == explanation.when]  # type: ignore[assignment]
        table[name] = values.groupby(key)[column].mean() if column in values else float("nan")
    numbers = ["mean_error", *explanations]
    table[numbers] = table[numbers].astype(float)
    table.loc[table["diverged"].astype(bool), numbers] = float("nan")
    return table.reset_index()
