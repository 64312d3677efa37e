"""What the kernels of the cpu engine are told of units: whose are watched, where that is kept, when they were born."""

from __future__ import annotations

from typing import NamedTuple

import torch
from fastplast_kernels.train_step.units import KINDS, Units, Watched
from torch import Tensor

from fastplast.engines.base import GroupState
from fastplast.engines.uses import Use
from fastplast.methods import Watch, hidden_layers
from fastplast.networks import AnyNetwork


class Watching(NamedTuple):
    """A method whose users are watched.

    Attributes:
        name: of the method.
        watch: how.
        members: `[m]` int64, positions in the group.
        settings: `[m, S]` float64, numbers of the kind.
    """

    name: str
    watch: Watch
    members: Tensor
    settings: Tensor


def watchings(uses: list[Use]) -> list[Watching]:
    """The methods of a group whose users are watched.

    Args:
        uses: of the group.

    Returns:
        One for each.
    """
    found = []
    for use in uses:
        if (watch := use.method.watch) is not None:
            members = torch.arange(len(use.users.seeds)) if use.rows is None else use.rows
            settings = torch.stack([value.double() for value in watch.settings(use.users)], 1)
            found.append(Watching(use.name, watch, members, settings))
    return found


def units_of(network: AnyNetwork, found: list[Watching], state: GroupState) -> Units | None:
    """What kernels are told of units.

    Args:
        network: of the group.
        found: of `watchings`.
        state: of the group, in which they change what the methods keep.

    Returns:
        The tables; None where nobody is watched.
    """
    if not found:
        return None
    layers = [hidden.layer.name for hidden in hidden_layers(network)]
    watched = [
        Watched(
            one.watch.kind,
            one.members,
            one.settings,
            [[state.kept[f"{one.name}.{part}.{layer}"] for part in KINDS[one.watch.kind].parts] for layer in layers],
        )
        for one in found
    ]
    return Units(watched, state.kept["born"])
