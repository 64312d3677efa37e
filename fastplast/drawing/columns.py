"""Which probe time a metric is drawn at, and what its axis is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastplast.runs.run import WHENS

if TYPE_CHECKING:
    import pandas


class Axis(NamedTuple):
    """How a column is drawn.

    Attributes:
        when: ``"start"`` or ``"end"`` of the task.
        label: what the values are.
        unit: of the values; empty where they are pure numbers.
    """

    when: str
    label: str
    unit: str = ""


# The Hessian is measured on the new task before its first update; everything else is read at the task's end.
COLUMNS: dict[str, Axis] = {
    "error": Axis("end", "error", "misclassified fraction"),
    "loss": Axis("end", "loss", "nats"),
    "test_error": Axis("end", "test error", "misclassified fraction"),
    "test_loss": Axis("end", "test loss", "nats"),
    "penalty": Axis("end", "penalty", "nats"),
    "online_error": Axis("end", "online error", "misclassified fraction"),
    "online_loss": Axis("end", "online loss", "nats"),
    "update_l1_mean": Axis("end", "mean absolute update", "per parameter and update"),
    "update_l2_mean": Axis("end", "update norm", "per update"),
    "displacement_l1": Axis("end", "mean absolute displacement", "per parameter and task"),
    "displacement_l2": Axis("end", "displacement", "per task"),
    "init_distance_l1": Axis("end", "mean absolute distance from init", "per parameter"),
    "init_distance_l2": Axis("end", "distance from init"),
    "weight_norm_l1": Axis("end", "mean absolute weight", "per parameter"),
    "weight_norm_l2": Axis("end", "weight norm"),
    "weight_srank": Axis("end", "weight stable rank", "directions"),
    "feature_srank": Axis("end", "feature stable rank", "directions"),
    "activation_entropy": Axis("end", "activation entropy", "nats"),
    "dormant_fraction": Axis("end", "dormant units", "fraction"),
    "dead_fraction": Axis("end", "dead units", "fraction"),
    "hessian_srank": Axis("start", "Hessian stable rank", "directions"),
    "hessian_srank_lo": Axis("start", "Hessian stable rank, lower bound", "directions"),
    "hessian_srank_hi": Axis("start", "Hessian stable rank, upper bound", "directions"),
    "hessian_zero": Axis("start", "zero Hessians", "fraction"),
    "hessian_sharpness": Axis("start", "Hessian sharpness", "nats per squared parameter"),
    "hessian_nuclear_norm": Axis("start", "Hessian nuclear norm", "nats per squared parameter"),
    "hessian_frobenius_norm": Axis("start", "Hessian Frobenius norm", "nats per squared parameter"),
    "hessian_trace": Axis("start", "Hessian trace", "nats per squared parameter"),
    "hessian_negative_mass": Axis("start", "Hessian negative mass", "fraction"),
    "hessian_overlap": Axis("start", "gradient-Hessian overlap", "cosine"),
    "hessian_dimension": Axis("start", "dimension left to the solver", "directions"),
    "hessian_depth": Axis("start", "eigenvalues computed", "directions"),
    "hessian_trace_error": Axis("start", "violation of the trace identity", "relative"),
    "hessian_frobenius_error": Axis("start", "violation of the Frobenius identity", "relative"),
    "hessian_assembly_error": Axis("start", "disagreement of Hessian and gradient", "relative"),
}


def axis_of(column: str) -> Axis:
    """How a column is drawn; one that the table lacks is drawn at task end under its own name.

    Args:
        column: of the metrics; ``feature_srank_fc3`` is found as ``feature_srank`` of the layer fc3.

    Returns:
        The axis.
    """
    if column in COLUMNS:
        return COLUMNS[column]
    for name in sorted(COLUMNS, key=len, reverse=True):
        if column.startswith(f"{name}_"):
            found = COLUMNS[name]
            return found._replace(label=f"{found.label} of {column[len(name) + 1 :]}")
    return Axis("end", column.replace("_", " "))


def measured_at(table: pandas.DataFrame, column: str) -> list[str]:
    """The probe times at which a column of the metrics has values."""
    return [when for when in WHENS if table.loc[table["when"] == when, column].notna().any()]


def find_column(column: str, measured: Mapping[str, Sequence[str]]) -> tuple[str, Axis]:
    """Finds a column and the probe time to draw it at.

    Args:
        column: a name, or ``name@start``, ``name@end`` to choose the time.
        measured: column to the times at which it has values.

    Returns:
        The column's name and its axis, whose ``when`` is a time at which it has values.

    Raises:
        ValueError: if there is no such column, or it has no value at that time.
    """
    from fastplast.text import closest

    name, _, when = column.partition("@")
    if name not in measured:
        raise ValueError(f"columns must be metrics of the run: got {name!r}. {closest(name, sorted(measured))}")
    axis, times = axis_of(name), measured[name]
    if when and when not in times:
        raise ValueError(f"columns has {column!r}, which was not measured: {name} has values at {', '.join(times)}.")
    return name, axis._replace(when=when or (axis.when if axis.when in times else times[0]))
