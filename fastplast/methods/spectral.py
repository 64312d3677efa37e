"""Spectral regularisation: the largest singular value of every weight matrix is pulled to 1.

The penalty of a member is ``strength * sum_l ((sigma_l^k - 1)^2 + |b_l|^(2 k))``, with sigma of one power iteration at
every update, which goes on from where it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast import seeding
from fastplast.methods.matrices import as_matrix, weight_slots
from fastplast.methods.method import Method, Seen, Users
from fastplast.networks import Slot

_FIRST_ITERATIONS = 20


def _iterate(weight: Tensor, u: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """Left and right singular vectors after power iterations from a left one."""
    v = u.new_zeros(weight.shape[1])
    for _ in range(count):
        v = torch.mv(weight.T, u)
        v = v / v.norm().clamp(min=1e-12)
        u = torch.mv(weight, v)
        u = u / u.norm().clamp(min=1e-12)
    return u, v


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    """Left singular vectors, found at the initial weights."""
    kept: dict[str, Tensor] = {}
    for number, slot in enumerate(weight_slots(users.layout, with_head=True)):
        rows = []
        for row, seed in zip(init, users.seeds):
            first = torch.from_numpy(seeding.normal(seed, "method", slot.shape[0], 0, number)).float()
            rows.append(_iterate(as_matrix(row, slot), first, _FIRST_ITERATIONS)[0])
        kept[slot.name] = torch.stack(rows)
    return kept


def _is_bias(before: Slot | None, slot: Slot) -> bool:
    """Whether a parameter is the bias of the weights before it, and none of a normalisation's."""
    return before is not None and before.is_weight and slot.name.endswith("bias")


def _gradient(seen: Seen) -> Tensor:
    users, gradient = seen.users, torch.zeros_like(seen.params)
    slots = users.layout.slots
    for m, (row, power) in enumerate(zip(seen.params, users.options["exponent"].tolist())):
        for before, slot in zip((None, *slots), slots):
            if slot.is_weight:
                weight = as_matrix(row, slot)
                u, v = _iterate(weight, seen.state[slot.name][m])
                seen.state[slot.name][m] = u
                sigma = torch.dot(u, torch.mv(weight, v))
                factor = 2.0 * power * (sigma**power - 1.0) * sigma ** (power - 1)
                gradient[m, slot.slice] = (factor * torch.outer(u, v)).flatten()
            elif _is_bias(before, slot) and users.chosen("biases", "yes")[m]:
                bias = row[slot.slice]
                gradient[m, slot.slice] = 2.0 * power * bias.square().sum() ** (power - 1) * bias
    return gradient * users.strength.float()[:, None]


spectral = Method(
    takes_strength=True,
    begin=_begin,
    gradient=_gradient,
)
