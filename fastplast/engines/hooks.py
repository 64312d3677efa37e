"""Calls the hooks of methods at their moments, each on the members that use the method, and keeps their state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastplast.engines.base import Group, GroupState
from fastplast.engines.optimizers import Step, take_step
from fastplast.engines.uses import Use, uses_of
from fastplast.methods import Arenas, Choice, Seen, count_units, hidden_layers, own_coefficients, reset_units
from fastplast.networks import ModuleNetwork
from fastplast.problems import Task
from fastplast.registered import RegisteredError, named


class MethodError(RegisteredError):
    """An error of a method's hook: says which method, which hook, and at which update."""


class Batch(NamedTuple):
    """What an update computed before the optimiser: gradients `[M, P]` and, where asked for, features."""

    task: Task
    grads: Tensor
    features: list[Tensor]


class Steps(NamedTuple):
    """Steps that are not the optimiser's.

    Attributes:
        members: `[M]` bool, who takes one.
        rows: `[r]`, their positions.
        params: `[r, P]` new ones.
        m: `[r, P]` new ones.
        v: `[r, P]` new ones.
    """

    members: Tensor
    rows: Tensor
    params: Tensor
    m: Tensor
    v: Tensor

    def put(self, state: GroupState, active: Tensor, l1: Tensor, l2: Tensor) -> None:
        """Takes the steps of members that are active and whose step is finite, in place.

        Args:
            state: of the group.
            active: `[M]` bool.
            l1: `[M]`, where the norms of the change go; so of the next.
            l2: `[M]`.
        """
        for i, row in enumerate(self.rows.tolist()):  # one at a time stays in cache
            change = self.params[i] - state.params[row]
            l1[row], l2[row] = change.abs().sum(), torch.linalg.vector_norm(change, dtype=torch.float64)
            if active[row] and l1[row].isfinite():
                for before, value in zip((state.params, state.m, state.v), self[2:]):
                    before[row] = value[i]

    def replace(self, new: tuple[Tensor, Tensor, Tensor], block: slice) -> None:
        """Puts the steps in place of those in `new`, of the members in a block."""
        within = (self.rows >= block.start) & (self.rows < block.stop)
        for value, own in zip(new, self[2:]):
            value[self.rows[within] - block.start] = own[within]


class Hooks:
    """The methods of a group that are more than a pull.

    Args:
        group: whose members.
        device: where its state is.
    """

    def __init__(self, group: Group, device: torch.device | str) -> None:
        self.group, self.device = group, torch.device(device)
        self.uses = uses_of(group, self.device)
        self.acts_on_updates = any(use.acts_on_updates for use in self.uses)
        within = [use.name for use in self.uses if use.acts_on_updates and use.method.acts_within_updates]
        self.acts_within_updates = within[0] if within else ""  # one of them
        self.acts_at_tasks = any(use.method.at_task is not None for use in self.uses)
        self.needs_features = any(use.method.needs_features for use in self.uses)
        self.restarts_count = group.optimizer_reset != "none" or any(use.method.resets_optimizer for use in self.uses)
        self._resets_units = any(use.method.choose_units for use in self.uses)
        rules = torch.zeros(len(group.members), dtype=torch.bool, device=self.device)
        for use in self.uses:
            if use.method.rule is not None:
                rules[slice(None) if use.rows is None else use.rows] = True
        self._rules, self._counts_by_unit = rules, self._resets_units and group.optimizer in ("adam", "adamw")
        self._hyper = group.hyper.to(self.device)

    def initial_state(self, init: Tensor) -> dict[str, Tensor]:
        """What is kept from update to update beside the arena, by name; empty without such methods.

        Args:
            init: `[M, P]` initial parameters.

        Returns:
            The tensors.
        """
        members, kept = len(init), {}
        if self.restarts_count:
            kept["since"] = torch.zeros(members, dtype=torch.int64, device=init.device)
        if self._resets_units:
            units, layers = count_units(self.group.network), len(hidden_layers(self.group.network))
            kept["born"] = torch.zeros(members, 2, units, dtype=torch.int64, device=init.device)
            kept["resets"] = torch.zeros(members, layers, dtype=torch.int64, device=init.device)
        for use in self.uses:
            if (begin := use.method.begin) is not None:
                own = self._call(use, "begin", 0, lambda use=use, begin=begin: begin(use.users, use.take(init)))
                kept |= {f"{use.name}.{name}": tensor for name, tensor in own.items()}
        return kept

    def counted(self, state: GroupState) -> Tensor:
        """`[M]` updates that Adam counts: all, or those since the last change of task."""
        return state.steps - state.kept["since"] if "since" in state.kept else state.steps

    def with_penalties(self, state: GroupState, batch: Batch) -> Batch:
        """The gradients that the optimiser is to see."""
        grads = batch.grads
        for use in self.uses:
            if use.method.gradient is not None:
                added = self._rows_of(use, "gradient", state, state.steps + 1, batch)
                grads = grads + added if use.rows is None else grads.index_add(0, use.rows, added)
        return batch._replace(grads=grads)

    def own_steps(self, state: GroupState, batch: Batch) -> Steps | None:
        """The steps of members that do not take that of the group's optimiser; None if there are none.

        They have a rule of their own, or weights that count updates of their own. The state is left as it is.

        Args:
            state: of the group.
            batch: gradients, penalties included.

        Returns:
            The steps.
        """
        own, group, coefficients = self._rules, self.group, None
        if self._counts_by_unit:
            own = own | (state.kept["born"].flatten(1).amax(1) > 0)
        rows = torch.nonzero(own).flatten()
        if not len(rows):
            return None
        new = tuple(arena.new_empty(len(rows), arena.shape[1]) for arena in (state.params, state.m, state.v))
        for i, row in enumerate(rows.tolist()):  # one at a time stays in cache
            one = slice(row, row + 1)
            counted, hyper = self.counted(state)[one] + 1, self._hyper.rows(one)
            if self._counts_by_unit:
                steps, born = state.steps[one] + 1, state.kept["born"][one]
                coefficients = own_coefficients(group.network, born, steps - counted, steps, hyper)
            old = (state.params[one], batch.grads[one], state.m[one], state.v[one])
            found = take_step(group.optimizer, Step(*old, counted, hyper, group.decoupled, coefficients))
            for value, own_value in zip(new, found):
                value[i] = own_value[0]
        place = own.cumsum(0) - 1  # of a member among the rows
        for use in self.uses:
            if use.method.rule is not None:
                which = use.take(place)
                new[0][which] = self._rows_of(use, "rule", state, state.steps + 1, batch)
                new[1][which], new[2][which] = use.take(state.m), use.take(state.v)
        return Steps(own, rows, *new)

    def after_update(self, state: GroupState, batch: Batch) -> None:
        """What comes after the step, in place."""
        self.change_parameters(self.uses, state, batch)
        for use in self.uses:
            if use.method.observe is not None:
                self._call_on(use, "observe", state, state.steps, batch)
            if use.method.choose_units is not None:
                self._reset(use, state, batch)

    def change_parameters(self, uses: list[Use], state: GroupState, batch: Batch) -> None:
        """What ``after_update`` of methods does, in place.

        Args:
            uses: the methods, and of whom.
            state: of the group.
            batch: of the update.
        """
        for use in uses:
            if use.method.after_update is not None and use.acts_on_updates:
                new = self._rows_of(use, "after_update", state, state.steps, batch)
                if new is not None:
                    self._put(use, state, new)

    def reset_due(self, state: GroupState, task: Task, due: Tensor) -> None:
        """Resets units of members of which kernels have observed that their methods are to choose, in place.

        Args:
            state: of the group.
            task: that is trained on.
            due: `[M]` bool.
        """
        batch = Batch(task, state.params.new_zeros(0), [])
        for use in self.uses:
            if use.method.watch is not None and bool((wanted := use.take(due)).any()):
                self._reset(use.some(wanted), state, batch)

    def begin_task(self, state: GroupState, task: Task) -> None:
        """What comes before a task other than the first, in place.

        Args:
            state: of the group.
            task: that begins.
        """
        if task.index == 0:
            return
        healthy = state.diverged < 0
        batch = Batch(task, state.params.new_zeros(0), [])
        for use in self.uses:
            if use.method.at_task is None:
                continue
            new = self._rows_of(use, "at_task", state, state.steps, batch)
            if new is not None:
                before = state.params.clone()
                self._put(use, state, new)
                if use.method.resets_optimizer:
                    changed = (state.params != before).any(1)
                    self._restart(state, changed, with_moments=True)
                    self._restart_statistics(state, changed)
        if self.group.optimizer_reset != "none":
            self._restart(state, healthy, self.group.optimizer_reset == "moments")
        if "resets" in state.kept:
            state.kept["resets"].zero_()

    def columns(self, state: GroupState) -> dict[str, Tensor]:
        """What methods did in the task so far: column to `[M]`."""
        if not self._resets_units:
            return {}
        names = (hidden.layer.name for hidden in hidden_layers(self.group.network))
        return {f"resets_{name}": state.kept["resets"][:, i].cpu() for i, name in enumerate(names)}

    def definitions(self) -> dict[str, str]:
        """What the columns mean; empty where there are none."""
        found = {"resets_{layer}": "units of the layer that the member's method reset during the task"}
        return found if self._resets_units else {}

    def _restart(self, state: GroupState, members: Tensor, with_moments: bool) -> None:
        """Adam counts updates from here on; moments are zero."""
        state.kept["since"].copy_(torch.where(members, state.steps, state.kept["since"]))
        if with_moments:
            state.m.masked_fill_(members[:, None], 0.0)
            state.v.masked_fill_(members[:, None], 0.0)

    def _restart_statistics(self, state: GroupState, members: Tensor) -> None:
        """Running statistics of a module's normalisation are those before the first update."""
        if isinstance(self.group.network, ModuleNetwork):
            for name, value in self.group.network.norms.initial(1).items():
                state.kept[f"running.{name}"][members] = value.to(self.device)

    def _put(self, use: Use, state: GroupState, new: Tensor) -> None:
        """New parameters of members in health; one of which they are not finite is frozen without them."""
        is_finite = new.amax(1).isfinite() & new.amin(1).isfinite()  # which is NaN where any is; the fastest way
        running = use.take(state.diverged) < 0
        keep = (is_finite & running)[:, None]
        params = new if bool(keep.all()) else torch.where(keep, new, use.take(state.params))
        diverged = torch.where(running & ~is_finite, use.take(state.steps), use.take(state.diverged))
        place = slice(None) if use.place is None else use.place
        state.params[place], state.diverged[place] = params, diverged

    def _reset(self, use: Use, state: GroupState, batch: Batch) -> None:
        """Resets the units that a method chooses.

        Raises:
            MethodError: if it gives no masks of the hidden layers.
        """
        assert not isinstance(self.group.network, ModuleNetwork)
        choice = self._call_on(use, "choose_units", state, state.steps, batch)
        healthy = use.take(state.diverged) < 0
        shapes = [(len(healthy), hidden.units) for hidden in hidden_layers(self.group.network)]
        if [tuple(mask.shape) for mask in choice.masks] != shapes or any(m.dtype != torch.bool for m in choice.masks):
            given = ", ".join(f"{mask.dtype} {list(mask.shape)}" for mask in choice.masks)
            place = self._where(use, "choose_units", state.steps)
            raise MethodError(f"{place} must give bool masks {', '.join(map(str, map(list, shapes)))}: got {given}.")
        masks = [mask & healthy[:, None] for mask in choice.masks]
        counts = torch.stack([mask.sum(1) for mask in masks], 1)
        if not bool(counts.any()):
            return
        rows = torch.arange(len(healthy), device=self.device) if use.rows is None else use.rows
        state.kept["resets"].index_add_(0, rows, counts)
        arenas = Arenas(state.params, state.m, state.v, state.kept["born"])
        chosen, seeds, steps = Choice(masks, choice.activations), use.users.seeds, use.take(state.steps).tolist()
        reset_units(self.group.network, arenas, chosen, seeds, steps, use.method.reset, rows.tolist())

    def _rows_of(self, use: Use, hook: str, state: GroupState, number: Tensor, batch: Batch) -> Any:
        """What a hook gives, checked to be rows of the arena.

        Raises:
            MethodError: if it is not.
        """
        found = self._call_on(use, hook, state, number, batch)
        shape = (len(use.users.seeds), self.group.layout.size)
        if found is not None and tuple(found.shape) != shape:
            raise MethodError(f"{self._where(use, hook, number)} must give {list(shape)}: got {list(found.shape)}.")
        return found

    def _call_on(self, use: Use, hook: str, state: GroupState, number: Tensor, batch: Batch) -> Any:
        start, positions = len(use.name) + 1, use.positions
        kept = {name[start:]: kept for name, kept in state.kept.items() if name.startswith(f"{use.name}.")}
        own = kept if positions is None else {name: tensor[positions] for name, tensor in kept.items()}
        task = batch.task
        if use.place is not None:
            tables = {n: use.take(v) for n in ("rows", "labels", "pixels") if (v := getattr(task, n)) is not None}
            task = dataclasses.replace(task, **tables)
        knows_arenas = hook != "choose_units" or use.method.observe is None
        params, m, v, init = (
            use.take(arena) if knows_arenas else arena.new_zeros(0)
            for arena in (state.params, state.m, state.v, state.init)
        )
        grads = use.take(batch.grads) if len(batch.grads) and knows_arenas else state.params.new_zeros(0)
        features = [use.take(h) for h in batch.features] if use.method.needs_features and knows_arenas else []
        seen = Seen(use.users, use.take(number), params, m, v, init, own, task, grads, features)
        found = self._call(use, hook, number, lambda: getattr(use.method, hook)(seen))
        if isinstance(positions, Tensor):
            for name, tensor in own.items():
                kept[name][positions] = tensor
        return found

    def _where(self, use: Use, hook: str, number: Tensor | int) -> str:
        update = number if isinstance(number, int) else int(number.max())
        return f"{hook} of the method {use.name!r} at update {update}"

    def _call(self, use: Use, hook: str, number: Tensor | int, work: Callable[[], Any]) -> Any:
        """Calls a hook.

        Raises:
            MethodError: whatever it raises.
            OutOfMemoryError: if memory does not suffice.
        """
        with named(self._where(use, hook, number), "method", MethodError), torch.no_grad():
            return work()


def new_state(group: Group) -> GroupState:
    """The state before the first update.

    Args:
        group: whose.

    Returns:
        The state, on the CPU.
    """
    params = group.network.initial_parameters(group.seeds)
    members, network = len(group.members), group.network
    running = network.norms.initial(members) if isinstance(network, ModuleNetwork) else {}
    return GroupState(
        params=params,
        m=torch.zeros_like(params),
        v=torch.zeros_like(params),
        init=params.clone(),
        steps=torch.zeros(members, dtype=torch.int64),
        diverged=torch.full((members,), -1, dtype=torch.int64),
        kept=Hooks(group, "cpu").initial_state(params) | {f"running.{name}": value for name, value in running.items()},
    )
