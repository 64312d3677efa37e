"""Weight clipping: after every update parameters are held within a bound of their layer."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from fastplast.methods.method import Method, Seen


def _clipped(seen: Seen) -> Tensor:
    """Biases, scale and shift have the bound of the weights before them, as in the published code."""
    users, new = seen.users, seen.params.clone()
    last = [slot.name for slot in users.layout.slots if slot.is_weight][-1]
    scale, is_clipped = torch.ones(len(new), device=new.device), users.options["bound"] > 0
    for slot in users.layout.slots:
        if slot.is_weight:
            initial = seen.init[:, slot.slice].abs().amax(1)
            scale = torch.where(users.chosen("scale", "initial"), initial, prod(slot.shape[1:]) ** -0.5)
        if slot.name == last:
            is_clipped = is_clipped & users.chosen("head", "yes")
        bound = torch.where(is_clipped, users.options["bound"].float() * scale, torch.inf)[:, None]
        new[:, slot.slice] = new[:, slot.slice].clamp(-bound, bound)
    return new


clip = Method(
    summary="after every update parameters are clipped to a bound of their layer",
    reference="Elsayed, Lan, Lyle, Mahmood 2024, RLC, arXiv 2407.01704",
    is_neutral=lambda options: options["bound"] == 0,
    after_update=_clipped,
    reads_params_only=True,
)
