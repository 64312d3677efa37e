"""What the kernels of the cpu engine are told of hooks that they do themselves, and whose hooks are left to Python."""

from __future__ import annotations

from typing import NamedTuple

import torch
from fastplast_kernels.train_step.actions import KINDS, Acted, Actions
from torch import Tensor

from fastplast import seeding
from fastplast.engines.base import GroupState
from fastplast.engines.uses import Use
from fastplast.methods import KernelHook


class Acting(NamedTuple):
    """A method whose hook kernels do for some of its users.

    Attributes:
        name: of the method.
        hook: what they do.
        members: `[n]` int64, positions in the group.
        rows: `[n]` int64, positions among all users.
        seeds: of the members.
        settings: `[n, S]` float64, numbers of the kind.
        of_layers: `[n, L]` float64, numbers of the layers.
        draws: `[n]` bool, who needs normal numbers.
    """

    name: str
    hook: KernelHook
    members: Tensor
    rows: Tensor
    seeds: list[int]
    settings: Tensor
    of_layers: Tensor
    draws: Tensor


def actings(uses: list[Use], init: Tensor, layers: int) -> list[Acting]:
    """The methods of a group whose hooks kernels do.

    Args:
        uses: of the group.
        init: `[M, P]` initial parameters.
        layers: L.

    Returns:
        One for each.
    """
    found = []
    for use in uses:
        hook, served = use.method.kernel_hook, use.in_kernels
        if hook is not None and bool(served.any()):
            own, rows = use.some(served), torch.nonzero(served).flatten()
            members = rows if use.rows is None else use.rows[rows]
            settings = torch.zeros(len(rows), len(KINDS[hook.kind].settings), dtype=torch.float64)
            for column, value in zip(settings.T, hook.settings(own.users), strict=True):
                column.copy_(value)
            of_layers = torch.zeros(len(rows), layers, dtype=torch.float64)
            if hook.of_layers is not None:
                of_layers.copy_(hook.of_layers(own.users, own.take(init)))
            found.append(
                Acting(use.name, hook, members, rows, own.users.seeds, settings, of_layers, hook.draws(own.users))
            )
    return found


def left_to_python(uses: list[Use]) -> list[Use]:
    """The uses of methods that change parameters after updates, of those members for whom kernels do not do it.

    Args:
        uses: of the group.

    Returns:
        The uses; empty if there are none.
    """
    wanted = [(use, use.acts & ~use.in_kernels) for use in uses if use.method.after_update is not None]
    return [use.some(left) for use, left in wanted if bool(left.any())]


def actions_of(found: list[Acting], state: GroupState, updates: int) -> Actions | None:
    """What kernels are told of them.

    Args:
        found: of `actings`.
        state: of the group, in which they change what the methods keep.
        updates: of an order that is about to be trained on.

    Returns:
        The tables; None where there are none.
    """
    if not found:
        return None
    draws = any(bool(one.draws.any()) for one in found)
    keys = torch.zeros(len(state.params), updates * draws, 2, dtype=torch.int64)
    for one in found:
        for member, seed, is_drawn in zip(one.members.tolist(), one.seeds, one.draws.tolist()):
            if is_drawn:
                first = int(state.steps[member]) + 1
                keys[member] = torch.from_numpy(seeding.stream_keys(seed, "noise", first, updates))
    acted = [
        Acted(
            one.hook.kind,
            one.members,
            one.rows,
            one.settings,
            one.of_layers,
            one.draws,
            [state.kept[f"{one.name}.{part}"] for part in KINDS[one.hook.kind].parts],
        )
        for one in found
    ]
    return Actions(acted, state.init, keys)
