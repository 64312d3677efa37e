"""Noise on the gradient, absolute or relative to the norm of each tensor's gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.draws import normal
from fastplast.methods.method import KernelHook, Method, Seen, Users


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    return {"updates": torch.zeros(len(init), dtype=torch.int64)}


def _gradient(seen: Seen) -> Tensor:
    users, updates = seen.users, seen.state["updates"]
    added = normal(users, seen.number.tolist(), users.options["size"] > 0)
    added *= (users.options["size"] * users.options["decay"] ** updates).float()[:, None]
    updates += 1
    relative = users.chosen("relative", "yes")
    for slot in users.layout.slots:
        norm = seen.grads[:, slot.slice].double().square().sum(1).sqrt().float()
        added[:, slot.slice] *= torch.where(relative, norm, 1.0)[:, None]
    return added


def _settings(users: Users) -> list[Tensor]:
    """For the kernels."""
    return [users.options["size"], users.options["decay"], users.chosen("relative", "yes")]


def _at_task(seen: Seen) -> None:
    seen.state["updates"].zero_()


noise = Method(
    is_neutral=lambda options: options["size"] == 0,
    begin=_begin,
    gradient=KernelHook(_gradient, "noise", _settings, draws=lambda users: users.options["size"] > 0),
    at_task=_at_task,
)
