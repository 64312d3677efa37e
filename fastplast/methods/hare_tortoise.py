"""Hare and tortoise: a slow average of the parameters, to which they are set back at a cadence."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.method import KernelHook, Method, Seen, Users


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    return {"slow": init.clone(), "updates": torch.zeros(len(init), dtype=torch.int64)}


def _after_update(seen: Seen) -> Tensor:
    decay, slow, updates = seen.users.column("decay"), seen.state["slow"], seen.state["updates"]
    slow.copy_(decay * slow + (1.0 - decay) * seen.params)
    updates += 1
    is_due = updates % seen.users.options["every"] == 0
    return torch.where(is_due[:, None], slow, seen.params)


def _settings(users: Users) -> list[Tensor]:
    """For the kernels."""
    return [users.options["decay"], users.options["every"]]


def _at_task(seen: Seen) -> Tensor:
    seen.state["updates"].zero_()
    return seen.state["slow"].clone()


hare_tortoise = Method(
    is_neutral=lambda options: options["decay"] == 0,
    begin=_begin,
    after_update=KernelHook(_after_update, "average", _settings),
    reads_params_only=True,
    at_task=_at_task,
)
