"""Full reset: every task is learned from an initialisation; the reference that methods are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.draws import fresh
from fastplast.methods.method import Method, Seen


def due(seen: Seen) -> Tensor:
    """`[m]` bool: members whose number of tasks between two changes divides the number of the task."""
    return seen.task.index % seen.users.options["every"].clamp(min=1) == 0


def _at_task(seen: Seen) -> Tensor:
    is_fresh, is_due = seen.users.chosen("to", "fresh"), due(seen)
    new = torch.where(is_fresh[:, None], fresh(seen, is_fresh & is_due), seen.init)
    return torch.where(is_due[:, None], new, seen.params)


full_reset = Method(
    is_neutral=lambda options: options["every"] == 0,
    at_task=_at_task,
    resets_optimizer=True,
)
