"""Which probe time a metric is drawn at, and what its axis is called."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastplast.config import ConfigError
from fastplast.runs.run import WHENS
from fastplast.text import closest

if TYPE_CHECKING:
    import numpy
    import pandas


BETTER = ("lowest", "highest")


class Axis(NamedTuple):
    """How a column is drawn.

    Attributes:
        when: ``"start"`` or ``"end"`` of the task.
        label: what the values are.
        unit: of the values; empty where they are pure numbers.
        least: the smallest value that there can be.
        most: the greatest, where it is the same for every network.
        better: ``"lowest"`` or ``"highest"``, where the one is better than the other; empty where neither is.
    """

    when: str
    label: str
    unit: str = ""
    least: float = 0.0
    most: float = math.inf
    better: str = ""


# The Hessian is measured on the new task before its first update; everything else is read at the task's end.
COLUMNS: dict[str, Axis] = {
    "error": Axis("end", "error", "misclassified fraction", most=1.0, better="lowest"),
    "loss": Axis("end", "loss", "nats", better="lowest"),
    "test_error": Axis("end", "test error", "misclassified fraction", most=1.0, better="lowest"),
    "test_loss": Axis("end", "test loss", "nats", better="lowest"),
    "earlier_error": Axis("end", "error on earlier tasks", "misclassified fraction", most=1.0, better="lowest"),
    "earlier_test_error": Axis(
        "end", "test error on earlier tasks", "misclassified fraction", most=1.0, better="lowest"
    ),
    "penalty": Axis("end", "penalty", "nats"),
    "online_error": Axis("end", "online error", "misclassified fraction", most=1.0, better="lowest"),
    "online_loss": Axis("end", "online loss", "nats", better="lowest"),
    "update_l1_mean": Axis("end", "mean size of updates", "absolute, per parameter"),
    "update_l2_mean": Axis("end", "mean L2 size of updates"),
    "displacement_l1": Axis("end", "update norm", "mean absolute displacement"),
    "displacement_l2": Axis("end", "L2 displacement of a task"),
    "init_distance_l1": Axis("end", "distance from init", "mean absolute, per parameter"),
    "init_distance_l2": Axis("end", "L2 distance from init"),
    "weight_norm_l1": Axis("end", "weight norm", "mean absolute weight"),
    "weight_norm_l2": Axis("end", "L2 weight norm"),
    "weight_srank": Axis("end", "weight stable rank", "directions", better="highest"),
    "feature_srank": Axis("end", "feature stable rank", "directions", better="highest"),
    "activation_entropy": Axis("end", "activation entropy", "nats", better="highest"),
    "dormant_fraction": Axis("end", "dormant units", "fraction", most=1.0, better="lowest"),
    "dead_fraction": Axis("end", "dead units", "fraction", most=1.0, better="lowest"),
    "hessian_srank": Axis("start", "Hessian stable rank", "directions", better="highest"),
    "hessian_srank_lo": Axis("start", "Hessian stable rank, lower bound", "directions", better="highest"),
    "hessian_srank_hi": Axis("start", "Hessian stable rank, upper bound", "directions", better="highest"),
    "hessian_zero": Axis("start", "zero Hessians", "fraction", most=1.0, better="lowest"),
    "hessian_sharpness": Axis("start", "Hessian sharpness", "nats per squared parameter"),
    "hessian_nuclear_norm": Axis("start", "Hessian nuclear norm", "nats per squared parameter"),
    "hessian_frobenius_norm": Axis("start", "Hessian Frobenius norm", "nats per squared parameter"),
    "hessian_trace": Axis("start", "Hessian trace", "nats per squared parameter", -math.inf),
    "hessian_negative_mass": Axis("start", "Hessian negative mass", "fraction", most=1.0),
    "hessian_overlap": Axis("start", "gradient-Hessian overlap", "cosine", -1.0, 1.0),
    "hessian_dimension": Axis("start", "dimension left to the solver", "directions"),
    "hessian_depth": Axis("start", "eigenvalues computed", "directions"),
    "hessian_trace_error": Axis("start", "violation of the trace identity", "relative"),
    "hessian_frobenius_error": Axis("start", "violation of the Frobenius identity", "relative"),
    "hessian_assembly_error": Axis("start", "disagreement of Hessian and gradient", "relative"),
}


_OTHERS = {"accuracy": "error", "acc": "error", "test_accuracy": "test_error", "srank": "hessian_srank"}


def axis_of(column: str, units: Mapping[str, str] | None = None) -> Axis:
    """How a column is drawn; one that the table lacks is drawn at task end under its own name.

    Args:
        column: of the metrics; ``feature_srank_fc3`` is found as ``feature_srank`` of the layer fc3.
        units: metric to unit, where the run's own is another than the table's, or the table has none.

    Returns:
        The axis.
    """
    patterns = {re.escape(name).replace(r"\{layer\}", ".+"): unit for name, unit in (units or {}).items()}
    own = next((unit for pattern, unit in patterns.items() if re.fullmatch(pattern, column)), None)
    found = _known_axis(column)
    return found if own is None else found._replace(unit=own)


def _known_axis(column: str) -> Axis:
    if column in COLUMNS:
        return COLUMNS[column]
    for name in sorted(COLUMNS, key=len, reverse=True):
        if column.startswith(f"{name}_"):
            found = COLUMNS[name]
            return found._replace(label=f"{found.label} of {column[len(name) + 1 :]}")
    return Axis("end", column.replace("_", " "), least=-math.inf)


def range_of(column: str, members: pandas.DataFrame, values: numpy.ndarray) -> tuple[float, float]:
    """The values that a metric can have, for the networks of some members.

    Ranks and entropies end where the network does: at the units of a layer, at the parameters of the Hessian's block.
    Widths other than the network's own are in no table, so that an end which a value exceeds is left out.

    Args:
        column: of the metrics.
        members: a row or more for each, with columns ``network`` and ``benchmark`` if they have one.
        values: of the metric, of any shape.

    Returns:
        The smallest and the greatest value; infinite where there is none.
    """
    import numpy as np

    axis = axis_of(column)
    known = {name: set(members[name]) if name in members else set() for name in ("network", "benchmark")}
    classes = 2 if known["benchmark"] and known["benchmark"] <= {"continual_imagenet", "class_pairs"} else 10
    most = axis.most
    if math.isinf(most):
        most = max((_largest(column, str(name), classes) for name in known["network"]), default=most)
    return axis.least, most if not (np.asarray(values, float) > most).any() else math.inf


def _largest(column: str, network: str, classes: int) -> float:
    """The greatest value of a rank or an entropy in a built-in network; infinite for other metrics and networks."""
    from fastplast.networks import NETWORKS, Preset

    preset = NETWORKS.get(network)
    if not isinstance(preset, Preset):
        return math.inf
    kind, _, layer = column.rpartition("_")
    if kind in ("feature_srank", "weight_srank"):
        sizes = preset.channels if layer.startswith("conv") else (*preset.widths, preset.widths[-1])
        place = int(re.sub(r"\D", "", layer) or 0) - 1
        return float(sizes[place]) if 0 <= place < len(sizes) else math.inf
    if column == "activation_entropy":
        return math.log(preset.widths[-1])
    if column.startswith("hessian_srank"):
        before, last = preset.widths[-2:]
        return float((before + 1) * last + (last + 1) * classes)
    return math.inf


def better_of(column: str, axis: Axis, given: str | None) -> str:
    """Whether the lowest or the highest values of a metric are the best: as its definition says, or as it is given.

    Args:
        column: the metric.
        axis: of it.
        given: ``"lowest"`` or ``"highest"``; as the metric's definition says if None.

    Returns:
        One of them.

    Raises:
        ConfigError: if it is given as something else, or neither given nor in the definition.
    """
    if given not in (None, *BETTER):
        raise ConfigError(f"best_is must be a known name: got {given!r}. {closest(given, BETTER)}")
    if not (given or axis.better):
        raise ConfigError(
            f"best_is must say whether the lowest or the highest {column} is best: got neither, and its definition "
            "does not say. Give lowest or highest."
        )
    return given or axis.better


def measured_at(table: pandas.DataFrame, column: str) -> list[str]:
    """The probe times at which a column of the metrics has values."""
    return [when for when in WHENS if table.loc[table["when"] == when, column].notna().any()]


def find_column(
    column: str,
    measured: Mapping[str, Sequence[str]],
    units: Mapping[str, str] | None = None,
    option: str = "columns",
) -> tuple[str, Axis]:
    """Finds a column and the probe time to draw it at.

    Args:
        column: a name, or ``name@start``, ``name@end`` to choose the time.
        measured: column to the times at which it has values.
        units: as of ``axis_of``.
        option: what names the column.

    Returns:
        The column's name and its axis, whose ``when`` is a time at which it has values.

    Raises:
        ConfigError: if there is no such column, or it has no value at that time.
    """
    name, _, when = column.partition("@")
    if name not in measured:
        known = sorted(measured)
        raise ConfigError(
            f"{option} must be metrics of the run: got {name!r}. {closest(_OTHERS.get(name, name), known)}"
        )
    axis, times = axis_of(name, units), measured[name]
    if when and when not in times:
        raise ConfigError(f"{option} has {column!r}, which was not measured: {name} has values at {', '.join(times)}.")
    return name, axis._replace(when=when or (axis.when if axis.when in times else times[0]))
