"""Normalise and project: hidden weight matrices keep their initial Frobenius norms; with layer normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.matrices import weight_slots
from fastplast.methods.method import Method, Seen


def _after_update(seen: Seen) -> Tensor | None:
    is_due = seen.number % seen.users.options["every"].clamp(min=1) == 0
    if not bool(is_due.any()):
        return None
    new = seen.params.clone()
    for slot in weight_slots(seen.users.layout, with_head=False):
        norms = [rows[:, slot.slice].double().square().sum(1).sqrt() for rows in (seen.init, new)]
        factor = torch.where(is_due & (norms[1] > 0), norms[0] / norms[1], 1.0)
        new[:, slot.slice] *= factor.float()[:, None]
    return new


nap = Method(
    summary="hidden weight matrices keep their initial norms, beside layer normalisation (normalise and project)",
    reference="Lyle et al. 2024, NeurIPS, arXiv 2407.01800",
    is_neutral=lambda options: options["every"] == 0,
    after_update=_after_update,
    reads_params_only=True,
)
