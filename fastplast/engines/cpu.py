"""The ``cpu`` engine: fused Numba kernels, each member kept in the caches of one core for an epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.engines.base import Accumulators, Group, GroupState, dropout_keys, pull_of
from fastplast.engines.hooks import Batch, Hooks
from fastplast.engines.kernel_layers import kernel_layers, without_kernels
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
    if hooks.restarts_count and isinstance(group.network, Network) and group.network.dropout:
        return "its kernels count updates for Adam and for dropout together, and Adam's count is to begin anew"
    return None


class CpuEngine:
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
        self._keys = dropout_keys(group) if group.network.dropout else None

    @property
    def notice(self) -> str | None:
        """What to tell before the first update, if anything: that kernels must be compiled, the first time ever."""
        from fastplast_kernels.compilation import is_kept  # which imports Numba

        rule = "sgd" if self.group.optimizer == "sgd" else "adam"
        if is_kept("train_step.cpu.step", f"train_{rule}"):
            return None
        return "Compiling the kernels of the cpu engine: once on this machine, a minute or two."

    def prepare(self, state: GroupState, task: Task, order: Tensor) -> None:
        """Nothing is captured; see ``Engine.prepare``."""

    def run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        """Trains on minibatches in order; see ``Engine.run``.

        All of them in one call of the kernels or, where methods act after updates, each in a call of its own.
        """
        if not self.hooks.acts_on_updates:
            return self._run(state, task, order)
        sums, batch = Accumulators.zeros(len(order)), Batch(task, state.params.new_zeros(0), [])
        for number in range(order.shape[1]):
            sums.add(self._run(state, task, order[:, number : number + 1]))
            self.hooks.after_update(state, batch)
        return sums

    def _run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        from fastplast_kernels.train_step.cpu.train import train  # which imports Numba

        since = state.kept.get("since", torch.zeros_like(state.steps))
        steps, diverged = state.steps - since, torch.where(state.diverged < 0, state.diverged, state.diverged - since)
        sums = train(
            state.params,
            state.m,
            state.v,
            steps,
            diverged,
            self.layers,
            task,
            order.contiguous(),
            self.group.hyper,
            self.group.optimizer,
            self.group.decoupled,
            self.pull.anchor if self.pull.active else None,
            self.pull.ranked,
            self._keys,
            self.threads,
        )
        state.steps.copy_(steps + since)
        state.diverged.copy_(torch.where(diverged < 0, diverged, diverged + since))
        return Accumulators(*sums)
