"""What a network still knows of the tasks before the present one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext

from fastplast.engines.base import Group, GroupState
from fastplast.machine.threads import one_thread_each
from fastplast.measuring import probes
from fastplast.measuring.group import MODULE
from fastplast.measuring.measurement import Column
from fastplast.networks import ModuleNetwork
from fastplast.problems import Task


def earlier_columns(group: Group, state: GroupState, tasks: Iterable[Task], count: int) -> dict[str, Column]:
    """The errors of every member on the tasks before the present one, with the network as it is now.

    Args:
        group: what is measured.
        state: its state at the end of the present task.
        tasks: those before it, the nearest first; at most `count`.
        count: how many are asked for.

    Returns:
        ``earlier_error``, the mean over the tasks, and ``earlier_error_1`` of the nearest to ``earlier_error_<count>``;
        ``earlier_test_error`` likewise where tasks have test examples. `[M]` values, None where there is no such task.
    """
    found: dict[str, list[Sequence[float]]] = {}
    for task in tasks:
        for name, own in (("earlier_error", task), ("earlier_test_error", task.test)):
            if own is not None:
                found.setdefault(name, []).append(_errors(group, state, own))
    columns: dict[str, Column] = {}
    nothing: Column = [None] * len(group.members)
    for name, errors in (found or {"earlier_error": []}).items():
        columns[name] = [sum(own) / len(own) for own in zip(*errors)] if errors else nothing
        for back in range(count):
            columns[f"{name}_{back + 1}"] = errors[back] if back < len(errors) else nothing
    return columns


def _errors(group: Group, state: GroupState, task: Task) -> list[float]:
    def error(member: int) -> float:
        with MODULE if isinstance(group.network, ModuleNetwork) else nullcontext():
            return probes.evaluate(group.network, state.params[member], task, member, state.running_of(member)).error

    return one_thread_each(error, len(group.members), state.params.device)
