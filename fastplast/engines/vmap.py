"""The ``vmap`` engine: torch.func over any network, on any device. It defines the truth for the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastplast_kernels.dropout.reference import dropout_mask
from fastplast_kernels.update import update
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn import functional

from fastplast import seeding
from fastplast.engines.base import Accumulators, Group, GroupState, pull_of
from fastplast.methods import Pull
from fastplast.networks import ModuleNetwork
from fastplast.problems import Task

_BLOCK_BYTES = 1 << 20  # of parameters updated at a time on a CPU, so that the moments stay in cache


class VmapEngine:
    """Gradients by ``vmap(grad(loss))`` over the rows of the arena, then the reference optimiser step.

    Args:
        group: what to train.
        state: of the group, for its initial parameters.
        device: where.
        notice: why this engine was chosen, if that is to be told.
    """

    name = "vmap"

    def __init__(self, group: Group, state: GroupState, device: torch.device, notice: str | None = None) -> None:
        self.group, self.device, self.notice = group, device, notice
        self.pull = pull_of(group, state)
        self.hyper = group.hyper.to(device)
        network = group.network

        def loss(row: Tensor, x: Tensor, y: Tensor, *masks: Tensor) -> tuple[Tensor, Tensor]:
            logits = network.logits(row, x, list(masks)) if masks else network.logits(row, x)  # pyright: ignore
            return functional.cross_entropy(logits, y), logits

        random = "different" if isinstance(network, ModuleNetwork) else "error"
        self._gradients = vmap(grad_and_value(loss, has_aux=True), randomness=random)
        self._dropout = 0.0 if isinstance(network, ModuleNetwork) else network.dropout
        if self._dropout:
            self._keys = torch.tensor([seeding.key_words(seed, "dropout") for seed in group.seeds], device=device)

    def run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        """Trains on minibatches in order; see ``Engine.run``."""
        with self._randomness(state, task):
            return self._run(state, task, order)

    def _run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        members, count, _ = order.shape
        sums = torch.zeros(4, members, dtype=torch.float64, device=self.device)
        before = state.steps.clone()
        order = order.to(self.device)
        labels = task.labels
        for step in range(count):
            positions = order[:, step]
            if int(positions[0, -1]) < 0:
                positions = positions[:, : int((positions[0] >= 0).sum())]
            y = labels.gather(1, positions)
            masks = self._masks(state.steps, positions.shape[1])
            grads, (loss, logits) = self._gradients(state.params, task.inputs(positions), y, *masks)
            error = (logits.argmax(2) != y).double().mean(1)
            self._apply(state, grads, loss.double(), error, sums)
        return Accumulators(state.steps - before, *sums)

    def _masks(self, steps: Tensor, batch: int) -> list[Tensor]:
        """Factors of dropout, `[M, B, *shape]` for each hidden layer: a function of seed, update, layer and place."""
        network = self.group.network
        if not self._dropout or isinstance(network, ModuleNetwork):
            return []
        return [
            dropout_mask(self._keys, steps, layer, (batch, *shape), self._dropout)
            for layer, shape in enumerate(network.mask_shapes())
        ]

    @contextmanager
    def _randomness(self, state: GroupState, task: Task) -> Iterator[None]:
        """Dropout and the like of a user's module draw from a stream of the first member's."""
        if not isinstance(self.group.network, ModuleNetwork):
            yield
            return
        self.group.network.train(True)
        update_number = int(state.steps.max())
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            word = seeding.words(self.group.seeds[0], "module", 1, task.index, update_number)[0]
            torch.manual_seed(int(word >> 1))
            yield

    def _apply(self, state: GroupState, grads: Tensor, loss: Tensor, error: Tensor, sums: Tensor) -> None:
        members = len(loss)
        block = members
        if self.device.type == "cpu":
            block = max(1, _BLOCK_BYTES // (4 * grads.shape[1]))
        for start in range(0, members, block):
            rows = slice(start, min(start + block, members))
            self._apply_block(state, rows, grads[rows], loss[rows], error[rows], sums[:, rows])

    def _apply_block(
        self, state: GroupState, rows: slice, grads: Tensor, loss: Tensor, error: Tensor, sums: Tensor
    ) -> None:
        params, group = state.params[rows], self.group
        pull: Pull = self.pull.rows(rows)
        if pull.active:
            grads = grads + pull.gradient(params)
        number = state.steps[rows] + 1
        new = update(
            params, grads, state.m[rows], state.v[rows], number, self.hyper.rows(rows), group.optimizer, group.decoupled
        )
        change = new[0] - params
        l1 = change.abs().sum(1).double() / group.layout.count
        l2 = torch.linalg.vector_norm(change, dim=1, dtype=torch.float64)  # float32 would overflow at 1e19
        running = state.diverged[rows] < 0
        healthy = running & loss.isfinite() & l1.isfinite()
        state.diverged[rows] = torch.where(running & ~healthy, state.steps[rows], state.diverged[rows])
        state.steps[rows] += healthy
        if bool(healthy.all()):
            for old, value in zip((state.params, state.m, state.v), new):
                old[rows].copy_(value)
            sums += torch.stack((loss, error, l1, l2))
            return
        keep = healthy[:, None]
        for old, value in zip((state.params, state.m, state.v), new):
            old[rows] = torch.where(keep, value, old[rows])
        sums += torch.where(healthy, torch.stack((loss, error, l1, l2)), 0.0)
