"""The ``vmap`` engine: torch.func over any network, on any device. It defines the truth for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from fastplast_kernels.dropout.reference import dropout_mask
from fastplast_kernels.optimisers import coefficients_of_updates
from torch import Tensor
from torch.func import grad_and_value, vmap

from fastplast.config import ConfigError
from fastplast.engines.base import Accumulators, Engine, Group, GroupState, dropout_keys, pull_of
from fastplast.engines.capture import capture
from fastplast.engines.draws import Draws
from fastplast.engines.hooks import Batch, Hooks, Steps
from fastplast.engines.optimizers import OPTIMIZERS, Step, take_step
from fastplast.losses import LOSSES
from fastplast.machine.memory import free_bytes
from fastplast.machine.out_of_memory import halve_members, release_and_warn
from fastplast.methods import Pull
from fastplast.networks import ModuleNetwork
from fastplast.problems import Task

Parts = dict[str, Tensor]  # name of a parameter to `[M, *shape]`, or of one member to `[*shape]`
# Logits `[M, B, C]`; features of hidden layers, where a method needs them; statistics of a module's normalisations.
Outputs = tuple[Tensor, list[Tensor], Parts]
Found = tuple[Parts, tuple[Tensor, Outputs]]  # gradients; loss `[M]`, outputs


@dataclass(frozen=True)
class _Captured:
    """A captured update: whose memory it reads and changes, where it finds positions and adds, and how to repeat it."""

    task: Task
    state: GroupState
    positions: Tensor
    sums: Tensor
    again: Callable[[], None]


class VmapEngine(Engine):
    """Gradients by ``vmap(grad(loss))`` over the rows of the arena, then the optimiser step.

    The step is the reference's, with plain tensors, or on CPU cores one pass over memory that equals it to rounding.
    Members of a user's module that draws random numbers or keeps running statistics are computed one after the other.

    Args:
        group: what to train.
        state: of the group, for its initial parameters.
        device: where.
        notice: why this engine was chosen, if that is to be told.
        compiled: whether gradients are compiled by ``torch.compile`` and, on a GPU, updates replayed as CUDA graphs.
    """

    name = "vmap"

    def __init__(
        self, group: Group, state: GroupState, device: torch.device, notice: str | None = None, compiled: bool = False
    ) -> None:
        self.group, self.device, self._notice, self.compiled = group, device, notice, compiled
        self.pull, self.hooks = pull_of(group, state), Hooks(group, device)
        self.hyper = group.hyper.to(device)
        self.at_once: int | None = None
        is_cpu, has_kernels = device.type == "cpu", OPTIMIZERS[group.optimizer].has_kernels
        self._rows = 1 if is_cpu and not has_kernels else len(group.members)  # updated at a time
        self._views = state.params, group.layout.views(state.params)  # made once: it takes as long as a small layer
        self._fused = is_cpu and has_kernels
        # Without weight decay both kinds are the same bits, and decoupled ones less work.
        self._decoupled = group.decoupled or not bool((group.hyper.weight_decay != 0).any())
        self._pulls = self.pull.active
        self._table: Tensor | None = None  # the kernel's coefficients of the next update
        self._in_one_pass, self._lost = False, False  # how updates are written, and whether one of them was lost
        keeps_statistics = any(name.startswith("running.") for name in state.kept)
        acts = self.hooks.acts_on_updates or keeps_statistics
        self._captures = compiled and device.type == "cuda" and not acts
        self._captured: dict[int, _Captured] = {}
        network = group.network
        self._draws = Draws(group.seeds, device) if isinstance(network, ModuleNetwork) else None
        # Operations of normalisations on a batch of members round otherwise than on one: these are computed in turn.
        self._one_by_one = isinstance(network, ModuleNetwork) and bool(network.norms.layers)
        self._is_watched = self._draws is not None and not self._one_by_one  # until the module is seen to draw
        self._gradients = self._transformed()
        self._dropout = 0.0 if isinstance(network, ModuleNetwork) else network.dropout
        if self._dropout:
            self._keys = dropout_keys(group).to(device)

    def _transformed(self) -> Callable[..., Found]:
        """Gradients, losses and outputs of all members from their parameters, inputs, labels and factors of dropout.

        Parameters and gradients are views of the arena by name: with respect to a row, the backward pass of each layer
        would fill and add a row.
        """
        network, mean = self.group.network, LOSSES[self.group.loss].mean
        norms = network.norms if isinstance(network, ModuleNetwork) else None

        def loss(parameters: Parts, x: Tensor, y: Tensor, *masks: Tensor) -> tuple[Tensor, Outputs]:
            own, features = (list(masks),) if masks else (), []
            if self.hooks.needs_features and not isinstance(network, ModuleNetwork):
                logits, features = network.run(network.layers, parameters, x, None, *own)
            else:
                logits = network.logits_of(parameters, x, *own)
            found = dict(norms.found) if norms is not None else {}
            return mean(logits, y), (logits, features, found)

        gradients = grad_and_value(loss, has_aux=True)
        if not self._one_by_one:
            random = "different" if self._draws else "error"
            gradients = vmap(gradients, randomness=random, chunk_size=self.at_once)
        gradients = torch.compile(gradients, dynamic=False, fullgraph=True) if self.compiled else gradients
        return self._stacked(gradients) if self._one_by_one else gradients

    def _stacked(self, gradients: Callable[..., Found]) -> Callable[..., Found]:
        """As for all members at once, by calls for one after the other."""

        def stacked(parameters: Parts, *inputs: Tensor) -> Found:
            def of_member(m: int) -> Found:
                return gradients({name: part[m] for name, part in parameters.items()}, *(each[m] for each in inputs))

            assert self._draws is not None
            grads, others = zip(*self._draws.call_for_each(of_member))
            losses, outputs = zip(*others)
            stack = {name: torch.stack([own[name] for own in grads]) for name in parameters}
            logits, _, found = zip(*outputs)
            statistics = {name: torch.stack([own[name] for own in found]) for name in found[0]}
            return stack, (torch.stack(losses), (torch.stack(logits), [], statistics))

        return stacked

    @property
    def notice(self) -> str | None:
        """Why it is not a faster engine that trains, where that was possible."""
        return self._notice

    def prepare(self, state: GroupState, task: Task, order: Tensor) -> None:
        """Captures an update on batches of each size; see ``Engine.prepare``."""
        if self._captures and not self._draws:
            sums = torch.zeros(4, len(state.params), dtype=torch.float64, device=self.device)
            for size in {int(count) for count in (order[0] >= 0).sum(1)}:
                self._captured_for(state, task, order[:, 0, :size].to(self.device), sums)

    def run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        """Trains on minibatches in order; see ``Engine.run``."""
        network = self.group.network
        if self._draws is None or not isinstance(network, ModuleNetwork):
            return self._run_in_one_pass(state, task, order)
        network.train(True)
        with self._draws.isolated():
            return self._run_in_one_pass(state, task, order)

    def _run_in_one_pass(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        """On a CPU, without a copy of each member before its update: of all before the call, where memory suffices.

        Where a change is not finite the call begins again, with a copy before each update; the bits are the same.
        """
        arena = [state.params, state.m, state.v]
        if not self._fused or self.hooks.acts_on_updates or sum(x.nbytes for x in arena) > free_bytes(self.device) / 2:
            return self._run(state, task, order)
        arena += [state.steps, state.diverged, *state.running_of(slice(None)).values()]
        before = [(tensor, tensor.clone()) for tensor in arena]
        self._in_one_pass, self._lost = True, False
        try:
            found = self._run(state, task, order)
        finally:
            self._in_one_pass = False
        if not self._lost:
            return found
        for tensor, kept in before:
            tensor.copy_(kept)
        return self._run(state, task, order)

    def _run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        members, count, _ = order.shape
        sums = torch.zeros(4, members, dtype=torch.float64, device=self.device)
        before = state.steps.clone()
        made = before.tolist() if self._draws else []
        sizes = (order[0] >= 0).sum(1).tolist()  # of each batch: the last of an epoch may be smaller
        order = order.to(self.device)
        tables = self._coefficients(state, count)
        for step in range(count):
            if self._in_one_pass and self._lost:
                break
            positions = order[:, step, : sizes[step]]
            self._table = tables[step] if tables is not None else None
            if self._draws:
                self._draws.set_update(task, [number + step + 1 for number in made])
            if self._captures and not self._is_watched:
                self._replay(state, task, positions, sums)
            else:
                self._update(state, task, positions, sums)
        return Accumulators(state.steps - before, *sums)

    def _coefficients(self, state: GroupState, count: int) -> Tensor | None:
        """Of the next updates of the kernel, `[count, M, 10]`: those of one take longer than its other arithmetic."""
        if not self._fused:
            return None
        made, optimizer = self.hooks.counted(state), self.group.optimizer
        return coefficients_of_updates(self.hyper, made, count, optimizer, self.group.decoupled)

    def _replay(self, state: GroupState, task: Task, positions: Tensor, sums: Tensor) -> None:
        """One update by the graph of updates on batches of this size, captured at the first of a task.

        Raises:
            ConfigError: if the network asks for values, so that it cannot be captured.
            OutOfMemoryError: if memory does not suffice for the graph.
        """
        found = self._captured_for(state, task, positions, sums)
        found.positions.copy_(positions)
        found.sums.copy_(sums)
        found.again()
        sums.copy_(found.sums)

    def _captured_for(self, state: GroupState, task: Task, positions: Tensor, sums: Tensor) -> _Captured:
        size = positions.shape[1]
        found = self._captured.get(size)
        if found is None or found.task is not task or found.state is not state:
            place, total = positions.clone(), torch.zeros_like(sums)
            changed = [state.params, state.m, state.v, state.steps, state.diverged, total]
            try:
                again = capture(lambda: self._update(state, task, place, total), changed)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise ConfigError(
                    f"--compile must be able to capture an update: got {str(error).splitlines()[0]!r} from the network "
                    f"{self.group.network.name}. Run without --compile."
                ) from error
            found = self._captured[size] = _Captured(task, state, place, total, again)
        return found

    def _update(self, state: GroupState, task: Task, positions: Tensor, sums: Tensor) -> None:
        """One update on the examples at `[M, B]`; on a GPU the host waits for nothing."""
        x, y = task.inputs(positions), task.labels_at(positions)
        if self._views[0] is not state.params:
            self._views = state.params, self.group.layout.views(state.params)
        inputs = (self._views[1], x, y, *self._masks(state.steps, positions.shape[1]))
        found = self._watched(*inputs) if self._is_watched else self._gradients_of(*inputs)
        grads, (loss, (logits, features, statistics)) = found
        error, before = LOSSES[task.loss].error(logits, y), state.steps.clone() if statistics else state.steps
        if not self.hooks.acts_on_updates:
            self._apply(state, grads, loss.double(), error, sums)
            self._move_statistics(state, statistics, before)
            return
        layout = self.group.layout
        batch = self.hooks.with_penalties(state, Batch(task, layout.row(grads), features))
        own = self.hooks.own_steps(state, batch)
        self._apply(state, layout.views(batch.grads), loss.double(), error, sums, own)
        self._move_statistics(state, statistics, before)
        self.hooks.after_update(state, batch)

    def _move_statistics(self, state: GroupState, found: Parts, before: Tensor) -> None:
        """Moves the running statistics of members that made an update since `before` by those of the minibatch."""
        if not found:
            return
        assert isinstance(self.group.network, ModuleNetwork)
        old, updated = state.running_of(slice(None)), state.steps > before
        for name, new in self.group.network.norms.moved(old, found).items():
            keep = updated.view(-1, *(1 for _ in new.shape[1:]))
            old[name].copy_(torch.where(keep, new, old[name]))

    def _watched(self, *inputs: Parts | Tensor) -> Found:
        """Of all members at once or, where the module turns out to draw, one after the other from now on."""
        assert self._draws is not None
        found, drew = self._draws.watch(lambda: self._gradients_of(*inputs))
        self._is_watched = not drew and not self._captures
        if drew:
            self._one_by_one, self._captures = True, False
            self._gradients = self._transformed()
            found = self._gradients_of(*inputs)
        return found

    def _gradients_of(self, *inputs: Parts | Tensor) -> Found:
        """Of all members at once or, where memory does not suffice, of as many as it does for.

        Raises:
            ConfigError: if the network cannot be compiled.
            RuntimeError: whatever else the network raises.
        """
        while True:
            try:
                return self._gradients(*inputs)
            except torch.OutOfMemoryError:
                pass  # once the frames that hold memory are gone, there is more; the state is that before the update
            except RuntimeError as error:
                if not type(error).__module__.startswith("torch._dynamo"):
                    raise
                raise ConfigError(
                    f"--compile must be able to trace the network {self.group.network.name}: got "
                    f"{str(error).splitlines()[0]!r}. Run without --compile."
                ) from error
            self.at_once = self._half(self.at_once or len(self.group.members), "gradients")
            self._gradients = self._transformed()

    def _half(self, before: int, what: str) -> int:
        """How many members at once to go on with; an error if one by itself does not fit."""
        half = halve_members(before, len(self.group.members))
        release_and_warn(f"{what} of {before:,} members at once: those of {half:,} are computed at a time")
        return half

    def _masks(self, steps: Tensor, batch: int) -> list[Tensor]:
        """Factors of dropout, `[M, B, *shape]` for each hidden layer: a function of seed, update, layer and place."""
        network = self.group.network
        if not self._dropout or isinstance(network, ModuleNetwork):
            return []
        return [
            dropout_mask(self._keys, steps, layer, (batch, *shape), self._dropout)
            for layer, shape in enumerate(network.mask_shapes())
        ]

    def _apply(
        self, state: GroupState, grads: Parts, loss: Tensor, error: Tensor, sums: Tensor, own: Steps | None = None
    ) -> None:
        if self._fused:
            self._apply_in_place(state, grads, loss, error, sums, own)
            return
        start = 0
        while start < len(loss):
            rows = slice(start, min(start + self._rows, len(loss)))
            try:
                parts = {name: part[rows] for name, part in grads.items()}
                self._apply_block(state, rows, parts, loss[rows], error[rows], sums[:, rows], own)
                start = rows.stop
                continue
            except torch.OutOfMemoryError:
                pass
            self._rows = self._half(self._rows, "updates")

    def _apply_in_place(
        self, state: GroupState, grads: Parts, loss: Tensor, error: Tensor, sums: Tensor, own: Steps | None
    ) -> None:
        """On a CPU, where the kernel neither needs memory nor has to be waited for."""
        from fastplast_kernels.update.cpu import update_in_place  # Numba is imported when first needed

        # NumPy, as operations on one number for each member are several times faster than PyTorch's.
        steps, diverged = state.steps.numpy(), state.diverged.numpy()
        running, losses, errors = diverged < 0, loss.numpy(), error.numpy()
        parts = {slot.offset: grads[slot.name] for slot in self.group.layout.slots}
        pull = (self.pull.target(state.params), self.pull.factor) if self._pulls else ()
        active = running & np.isfinite(losses)
        by_kernel = torch.from_numpy(active if own is None else active & ~own.members.numpy())
        l1, l2 = update_in_place(
            state.params,
            state.m,
            state.v,
            parts,
            self._table,
            by_kernel,
            self.group.optimizer,
            *pull,
            in_one_pass=self._in_one_pass,
        )
        if own is not None:
            own.put(state, torch.from_numpy(active), l1, l2)
        healthy = active & np.isfinite(l1.numpy())
        self._lost = not np.array_equal(healthy, active)
        np.copyto(diverged, steps, where=running & ~healthy)
        steps += healthy
        more = losses, errors, l1.numpy() / self.group.layout.count, l2.numpy()
        for total, value in zip(sums.numpy(), more):
            np.add(total, value, out=total, where=healthy)

    def _apply_block(
        self,
        state: GroupState,
        rows: slice,
        parts: Parts,
        loss: Tensor,
        error: Tensor,
        sums: Tensor,
        own: Steps | None,
    ) -> None:
        """With plain tensors; nothing is read back, so that a GPU is not waited for."""
        params, group = state.params[rows], self.group
        grads = group.layout.row(parts)
        pull: Pull = self.pull if len(params) == len(state.params) else self.pull.rows(rows)
        if self._pulls:
            grads = grads + pull.gradient(params)
        number = self.hooks.counted(state)[rows] + 1
        old = (params, grads, state.m[rows], state.v[rows])
        new = take_step(group.optimizer, Step(*old, number, self.hyper.rows(rows), self._decoupled))
        if own is not None:
            own.replace(new, rows)
        change = new[0] - params
        l1 = change.abs().sum(1).double() / group.layout.count
        l2 = torch.linalg.vector_norm(change, dim=1, dtype=torch.float64)  # float32 would overflow at 1e19
        running = state.diverged[rows] < 0
        healthy = running & loss.isfinite() & l1.isfinite()
        diverged = torch.where(running & ~healthy, state.steps[rows], state.diverged[rows])
        more = torch.where(healthy, torch.stack((loss, error, l1, l2)), 0.0)
        old, keep = (state.params, state.m, state.v), healthy[:, None]
        new = [torch.where(keep, value, before[rows]) for before, value in zip(old, new)]
        # Nothing has changed before, and from here on no memory is taken.
        for before, value in zip(old, new):
            before[rows].copy_(value)
        state.diverged[rows] = diverged
        state.steps[rows] += healthy
        sums += more
