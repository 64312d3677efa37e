"""Random numbers of methods: of each member from streams of its own, named by the number of the update."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast import seeding
from fastplast.methods.method import Seen, Users


def normal(users: Users, numbers: list[int], wanted: Tensor) -> Tensor:
    """A standard normal number for each parameter.

    Args:
        users: the members.
        numbers: of the update of each.
        wanted: `[m]` bool; the others get zeros.

    Returns:
        `[m, P]` float32; zero in the padding.
    """
    layout = users.layout
    drawn = torch.zeros(len(users.seeds), layout.size)
    for row, seed, number, is_wanted in zip(drawn, users.seeds, numbers, wanted.tolist()):
        if is_wanted:
            values = torch.from_numpy(seeding.normal_float32(seed, "noise", layout.size, number))
            for slot in layout.slots:
                row[slot.slice] = values[slot.slice]
    return drawn.to(wanted.device)


def fresh(seen: Seen, wanted: Tensor) -> Tensor:
    """An initialisation of the whole network, drawn anew.

    Args:
        seen: the members, at an update.
        wanted: `[m]` bool; the others get zeros.

    Returns:
        `[m, P]` float32.
    """
    drawn = torch.zeros(seen.params.shape)
    for m, (seed, number) in enumerate(zip(seen.users.seeds, seen.number.tolist())):
        if wanted[m]:
            word = int(seeding.words(seed, "method", 1, number)[0] >> 1)
            drawn[m] = seen.users.network.initial_parameters([word])[0]
    return drawn.to(seen.params.device)
