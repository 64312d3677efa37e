"""The ``cpu`` engine: fused Numba kernels, each member kept in the caches of one core for some epochs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fastplast_kernels.train_step.actions import Actions
from fastplast_kernels.train_step.arguments import Span, whole_span
from torch import Tensor

from fastplast.engines.acting import actings, actions_of, left_to_python
from fastplast.engines.base import Accumulators, Engine, Group, GroupState, dropout_keys, pull_of
from fastplast.engines.hooks import Batch, Hooks
from fastplast.engines.kernel_layers import kernel_layers, without_kernels
from fastplast.engines.watching import units_of, watchings
from fastplast.networks import Network
from fastplast.problems import Task


def missing(group: Group, device: torch.device) -> str | None:
    """What the engine would need to serve a group.

    Args:
        group: what to train.
        device: where.

    Returns:
        The reason why it can't, or None if it can.
    """
    if device.type != "cpu":
        return f"it trains on the CPU, not on {device.type}"
    if reason := without_kernels(group):
        return reason
    hooks = Hooks(group, device)
    if name := hooks.acts_within_updates:
        return f"--method {name} acts within every update, which its kernels do not serve"
    return None


class CpuEngine(Engine):
    """Trains built-in networks; draws, order of updates and results are those of the ``vmap`` engine to tolerance.

    A member's bits do not depend on the other members, on the number of threads, or on how updates are split into
    calls.

    Args:
        group: what to train.
        state: of the group, for its initial parameters.
        threads: cores to use.
    """

    name = "cpu"
    device = torch.device("cpu")

    def __init__(self, group: Group, state: GroupState, threads: int) -> None:
        assert isinstance(group.network, Network)  # `missing` was asked
        self.group, self.threads = group, threads
        self.pull, self.hooks = pull_of(group, state), Hooks(group, "cpu")
        self.layers = kernel_layers(group.network, group.reduction)
        self._watchings = watchings(self.hooks.uses)
        self._actings = actings(self.hooks.uses, state.init, len(self.layers))
        self._left = left_to_python(self.hooks.uses)
        self._singly = torch.zeros(len(group.members), dtype=torch.bool)  # who makes a call for each update
        for use in self._left:
            self._singly[slice(None) if use.rows is None else use.rows] = True
        self._keys = dropout_keys(group) if group.network.dropout else None

    @property
    def notice(self) -> str | None:
        """What to tell before the first update, if anything: that kernels must be compiled, the first time ever."""
        from fastplast_kernels.compilation import is_kept  # which imports Numba

        if is_kept("train_step.cpu.step", "watch" if self._watchings or self._actings else "train"):
            return None
        return "Compiling the kernels of the cpu engine: once on this machine, a minute or two."

    def prepare(self, state: GroupState, task: Task, order: Tensor) -> None:
        """Nothing is captured; see ``Engine.prepare``."""

    def run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        """Trains on minibatches in order; see ``Engine.run``."""
        return self.run_epochs(state, task, [order])[0]

    def run_epochs(self, state: GroupState, task: Task, orders: Sequence[Tensor]) -> list[Accumulators]:
        """Trains epoch after epoch; see ``Engine.run_epochs``.

        In calls of the kernels in which each member makes all updates, so that it is fetched once; or one, where a
        method acts after each of it and kernels do not do that themselves; or those up to one after which its method
        chooses units.
        """
        order, hooks, epochs = torch.cat(tuple(orders), 1), self.hooks, len(orders)
        span, made, count = whole_span(order), 0, order.shape[1]
        actions = actions_of(self._actings, state, count)
        sums, batch = Accumulators.zeros(len(order), epochs), Batch(task, state.params.new_zeros(0), [])
        while bool(((span.begin < count) & (state.diverged < 0)).any()):
            if self._left:
                made += 1
                span.end.copy_(torch.where(self._singly, min(made, count), count))
            sums.add(self._run(state, task, order, span, actions, epochs))
            if self._left and made <= count:
                hooks.change_parameters(self._left, state, batch)
            if bool(span.due.any()):
                hooks.reset_due(state, task, span.due)
                span.due.zero_()
        return [Accumulators(*of_epoch) for of_epoch in zip(*(x.unbind(1) for x in sums.tensors().values()))]

    def _run(
        self, state: GroupState, task: Task, order: Tensor, span: Span, actions: Actions | None, epochs: int
    ) -> Accumulators:
        from fastplast_kernels.train_step.cpu.train import train  # which imports Numba

        sums = train(
            state.params,
            state.m,
            state.v,
            state.steps,
            state.diverged,
            self.layers,
            task,
            order,
            self.group.hyper,
            self.group.optimizer,
            self.group.decoupled,
            self.pull.anchor if self.pull.active else None,
            self.pull.ranked,
            self._keys,
            self.threads,
            state.kept.get("since"),
            span,
            units_of(self.group.network, self._watchings, state),
            actions,
            epochs,
        )
        return Accumulators(*sums)
