"""Normalise and project: hidden weight matrices keep their initial Frobenius norms; with layer normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.matrices import weight_slots
from fastplast.methods.method import KernelHook, Method, Seen, Users
from fastplast.networks.layout import Slot


def _norms(rows: Tensor, users: Users) -> dict[Slot, Tensor]:
    """Of hidden weight matrices, `[m]` float64."""
    slots = weight_slots(users.layout, with_head=False)
    return {slot: rows[:, slot.slice].double().square().sum(1).sqrt() for slot in slots}


def _of_layers(users: Users, init: Tensor) -> Tensor:
    """Initial norms; -1 of the last layer, which is left alone."""
    norms = list(_norms(init, users).values())
    return torch.stack([*norms, torch.full((len(init),), -1.0, dtype=torch.float64)], 1)


def _after_update(seen: Seen) -> Tensor | None:
    is_due = seen.number % seen.users.options["every"].clamp(min=1) == 0
    if not bool(is_due.any()):
        return None
    new = seen.params.clone()
    initial = _norms(seen.init, seen.users)
    for slot, norm in _norms(seen.params, seen.users).items():
        factor = torch.where(is_due & (norm > 0), initial[slot] / norm, 1.0)
        new[:, slot.slice] *= factor.float()[:, None]
    return new


nap = Method(
    is_neutral=lambda options: options["every"] == 0,
    after_update=KernelHook(_after_update, "rescale", lambda users: [users.options["every"]], _of_layers),
    reads_params_only=True,
)
