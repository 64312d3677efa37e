"""Measures a group: every metric of every member at a task's start or end."""

from __future__ import annotations

from torch import Tensor

from fastplast.engines.base import Group, GroupState
from fastplast.machine.profiling import annotate
from fastplast.measuring import hessian, probes
from fastplast.measuring.measurement import Column, Measurement
from fastplast.methods import Pull
from fastplast.networks import ModuleNetwork
from fastplast.problems import Task

_MEMBERS_AT_ONCE = 16  # bounds the memory of tails and Hessians


def measure_group(
    group: Group,
    state: GroupState,
    task: Task,
    pull: Pull,
    *,
    with_probes: bool,
    with_hessian: bool,
    with_weights: bool = True,
    method: str = "auto",
    expected: Tensor | None = None,
) -> Measurement:
    """Measures every member of a group at the start or the end of a task.

    Args:
        group: what is measured.
        state: its state.
        task: on whose examples.
        pull: its regulariser.
        with_probes: whether to measure features and weights.
        with_hessian: whether to measure curvature.
        with_weights: whether weights may have changed since they were last measured.
        method: of measuring curvature, as ``curvature.measure`` takes it.
        expected: `[M]` stable ranks expected, negative where there is none; they decide what is tried first.

    Returns:
        What was found.
    """
    network, rows, curvature = group.network, [], []
    for first in range(0, len(group.members), _MEMBERS_AT_ONCE):
        members = range(first, min(first + _MEMBERS_AT_ONCE, len(group.members)))
        tail_inputs = []
        for member in members:
            found = probes.evaluate(network, state.params[member], task, member)
            row = {"loss": found.loss, "error": found.error}
            row |= probes.held_out_columns(network, state.params[member], task, member)
            if with_probes:
                row |= probes.feature_columns(found)
            if with_probes and with_weights:
                row |= probes.weight_columns(state.params[member], state.init[member], group.layout)
            rows.append(row)
            if with_hessian:
                tail_inputs.append(found.tail_inputs)
        if with_hessian and not isinstance(network, ModuleNetwork):
            part = slice(members.start, members.stop)
            hint = None if expected is None else expected[part]
            with annotate("srank"):
                params, labels = state.params[part], task.labels[part]
                curvature += hessian.measure_tails(network, params, labels, tail_inputs, method, hint)
    if with_hessian and isinstance(network, ModuleNetwork):
        with annotate("srank"):
            curvature.append(hessian.measure_modules(network, state.params, task))
    columns: dict[str, Column] = {name: [row[name] for row in rows] for name in rows[0]}
    if pull.active:
        columns["penalty"] = pull.penalty(state.params).tolist()
    if not curvature:
        return Measurement(columns, None, None)
    columns |= hessian.hessian_columns(curvature)
    eigenvalues = [values for part in curvature for values in part.eigenvalues]
    return Measurement(columns, eigenvalues, [seconds for part in curvature for seconds in part.seconds.tolist()])
