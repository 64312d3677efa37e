"""Metrics by name: what is always measured, what is measured on request, and metrics of the user's own."""

from __future__ import annotations

from collections.abc import Callable

from fastplast.config import DEFINITIONS, METRIC_NAMES, add_own
from fastplast.losses import LOSSES
from fastplast.measuring.diagnostics import DIAGNOSTICS
from fastplast.measuring.metric import Metric, Reads, Snapshot
from fastplast.measuring.probes import feature_columns, held_out_columns, weight_columns


def _outputs(snapshot: Snapshot) -> dict[str, float]:
    """Loss and error on the task's examples, and on its test examples where there are some."""
    found, task = snapshot.evaluation, snapshot.task
    columns = {"loss": found.loss, "error": found.error}
    columns |= held_out_columns(snapshot.network, snapshot.params, task, snapshot.member, snapshot.running)
    has_classes = LOSSES[task.loss].has_classes
    return {name: value for name, value in columns.items() if has_classes or not name.endswith("error")}


def _features(snapshot: Snapshot) -> dict[str, float]:
    return feature_columns(snapshot.evaluation)


def _weights(snapshot: Snapshot) -> dict[str, float]:
    return weight_columns(snapshot.params, snapshot.init, snapshot.network.layout)


def _penalty(snapshot: Snapshot) -> dict[str, float]:
    return {} if snapshot.penalty is None else {"penalty": snapshot.penalty}


def _defined(reads: Reads, measure: Callable[[Snapshot], dict[str, float]], *columns: str) -> Metric:
    definitions = {column: DEFINITIONS[column] for column in columns}
    return Metric(measure, definitions, reads=reads, runs_network=measure is _outputs)


METRICS: dict[str, Metric] = {
    "outputs": _defined("outputs", _outputs, "loss", "error", "test_loss", "test_error"),
    "features": _defined(
        "features", _features, "feature_srank_{layer}", "dormant_fraction", "dead_fraction", "activation_entropy"
    ),
    "weights": _defined(
        "weights", _weights, "weight_norm_l1", "weight_norm_l2", "init_distance_l1", "init_distance_l2",
        "weight_norm_l1_{layer}", "weight_srank_{layer}",
    ),
    "penalty": _defined("outputs", _penalty, "penalty"),
}  # fmt: skip
ALWAYS = tuple(METRICS)  # measured without being asked for
METRICS |= DIAGNOSTICS


def register(name: str, metric: Metric) -> None:
    """Makes a metric of one's own known to this process: to measure it, and to resume runs in which it is measured.

    Args:
        name: what ``Experiment(metrics=...)`` calls it, and its column, unless it defines several.
        metric: what is measured.

    Raises:
        ValueError: if the name, or that of a column, is one of the package's.
    """
    known = {*METRIC_NAMES, *ALWAYS, *DEFINITIONS, *definitions_of(METRIC_NAMES)}
    for column in metric.definitions(name):
        if column in known:
            raise ValueError(f"columns must be new: got {column!r}, which is one of fastplast's. Choose another name.")
    add_own("metric", name, known)
    METRICS[name] = metric


def definitions_of(names: tuple[str, ...]) -> dict[str, str]:
    """Column to definition, of what is measured on request.

    Args:
        names: of metrics.

    Returns:
        The definitions.
    """
    return {column: text for name in names for column, text in METRICS[name].definitions(name).items()}


def units_of(names: tuple[str, ...]) -> dict[str, str]:
    """Column to unit, of what is measured on request and has one.

    Args:
        names: of metrics.

    Returns:
        The units.
    """
    found = {column: METRICS[name].unit for name in names for column in METRICS[name].definitions(name)}
    return {column: unit for column, unit in found.items() if unit}
