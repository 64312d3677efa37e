"""Weight clipping: after every update parameters are held within a bound of their layer."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from fastplast.methods.method import KernelHook, Method, Seen, Users


def _bounds(users: Users, init: Tensor) -> Tensor:
    """Of each slot, `[m, slots]`. Biases, scale and shift have the bound of the weights before them, as published."""
    bounds, last = [], [slot.name for slot in users.layout.slots if slot.is_weight][-1]
    scale, is_clipped = torch.ones(len(init), device=init.device), users.options["bound"] > 0
    for slot in users.layout.slots:
        if slot.is_weight:
            initial = init[:, slot.slice].abs().amax(1)
            scale = torch.where(users.chosen("scale", "initial"), initial, prod(slot.shape[1:]) ** -0.5)
        if slot.name == last:
            is_clipped = is_clipped & users.chosen("head", "yes")
        bounds.append(torch.where(is_clipped, users.options["bound"].float() * scale, torch.inf))
    return torch.stack(bounds, 1)


def _of_layers(users: Users, init: Tensor) -> Tensor:
    return _bounds(users, init)[:, [slot.is_weight for slot in users.layout.slots]]


def _clipped(seen: Seen) -> Tensor:
    new = seen.params.clone()
    for slot, bound in zip(seen.users.layout.slots, _bounds(seen.users, seen.init).T[:, :, None]):
        new[:, slot.slice] = new[:, slot.slice].clamp(-bound, bound)
    return new


clip = Method(
    is_neutral=lambda options: options["bound"] == 0,
    after_update=KernelHook(_clipped, "clamp", of_layers=_of_layers),
    reads_params_only=True,
)
