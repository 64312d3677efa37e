"""Measures a group: every metric of every member at a task's start or end."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from threading import Lock

from torch import Tensor

from fastplast.engines.base import Group, GroupState
from fastplast.engines.optimizers import Step, take_step
from fastplast.machine.profiling import annotate
from fastplast.machine.threads import one_thread_each
from fastplast.measuring import hessian, probes
from fastplast.measuring.measurement import Column, Measurement
from fastplast.measuring.metric import Metric, Snapshot, columns_of
from fastplast.measuring.metrics import ALWAYS, METRICS
from fastplast.methods import Pull
from fastplast.networks import ModuleNetwork
from fastplast.problems import Task

_MEMBERS_AT_ONCE = 16  # bounds the memory of tails and Hessians
MODULE = Lock()  # members of a user's module are evaluated in turn: parameters are put into one module


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
    metrics: tuple[str, ...] = (),
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
        metrics: names of what else is measured.

    Returns:
        What was found.
    """
    network, rows, curvature = group.network, [], []
    reads = ["outputs", *(["features"] * with_probes), *(["weights"] * (with_probes and with_weights))]
    chosen = {name: METRICS[name] for name in (*ALWAYS, *metrics) if METRICS[name].reads in reads}
    for first in range(0, len(group.members), _MEMBERS_AT_ONCE):
        members = range(first, min(first + _MEMBERS_AT_ONCE, len(group.members)))

        def measured(index: int, first: int = first) -> tuple[dict[str, float], Tensor]:
            return _measure_member(group, state, task, pull, first + index, chosen)

        found = one_thread_each(measured, len(members), state.params.device)
        rows += [row for row, _ in found]
        tail_inputs = [inputs for _, inputs in found]
        if with_hessian and not isinstance(network, ModuleNetwork):
            part = slice(members.start, members.stop)
            hint = None if expected is None else expected[part]
            with annotate("srank"):
                params, labels = state.params[part], task.labels[part]
                curvature += hessian.measure_tails(network, params, labels, tail_inputs, method, hint, task.loss)
    if with_hessian and isinstance(network, ModuleNetwork):
        with annotate("srank"):
            curvature.append(hessian.measure_modules(network, state, task))
    columns: dict[str, Column] = {name: [row[name] for row in rows] for name in rows[0]}
    if not curvature:
        return Measurement(columns, None, None)
    columns |= hessian.hessian_columns(curvature)
    eigenvalues = [values for part in curvature for values in part.eigenvalues]
    return Measurement(columns, eigenvalues, [seconds for part in curvature for seconds in part.seconds.tolist()])


def _measure_member(
    group: Group, state: GroupState, task: Task, pull: Pull, member: int, metrics: dict[str, Metric]
) -> tuple[dict[str, float], Tensor]:
    """One member's metrics, curvature left out, and what enters its last two layers."""
    network, row, columns = group.network, state.params[member], {}
    running, lock = state.running_of(member), MODULE if isinstance(network, ModuleNetwork) else nullcontext()
    with lock:
        found = probes.evaluate(network, row, task, member, running)
    alone = slice(member, member + 1)
    penalty = float(pull.rows(alone).penalty(state.params[alone])) if pull.active else None
    init, seed = state.init[member], group.seeds[member]
    step = partial(_next_parameters, group, state, member)
    snapshot = Snapshot(network, row, init, task, member, seed, found, penalty, step, group.batch_size, running)
    place = f"at update {int(state.steps[member])} (task {task.index})"
    for name, metric in metrics.items():
        with lock if metric.runs_network else nullcontext():
            columns |= columns_of(name, metric, snapshot, place)
    return columns, found.tail_inputs


def _next_parameters(group: Group, state: GroupState, member: int, gradient: Tensor) -> Tensor:
    """Parameters `[P]` of a member after an update of the optimizer with a gradient `[P]`; the state stays."""
    one = slice(member, member + 1)
    old = (state.params[one], gradient[None], state.m[one], state.v[one])
    since = state.kept["since"][one] if "since" in state.kept else 0
    hyper = group.hyper.to(gradient.device).rows(one)
    return take_step(group.optimizer, Step(*old, state.steps[one] - since + 1, hyper, group.decoupled))[0][0]
