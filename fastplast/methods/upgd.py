"""Utility-based perturbed gradient descent: useful weights move less, the others also get noise."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.draws import normal
from fastplast.methods.method import KernelHook, Method, Seen, Users


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    return {"utility": torch.zeros_like(init), "updates": torch.zeros(len(init), dtype=torch.int64)}


def gates(users: Users, utility: Tensor, correction: Tensor) -> Tensor:
    """How useful each weight is, in (0, 1).

    Args:
        users: the members.
        utility: `[m, P]` running mean.
        correction: `[m, 1]`, 1 - decay^t.

    Returns:
        `[m, P]`: the sigmoid of the corrected utility over the largest, or over the length of its row.
    """
    corrected = utility / correction
    largest = torch.where(users.chosen("largest", "raw")[:, None], utility, corrected).amax(1, keepdim=True)
    # Of utilities that are all negative the largest is negative, and would turn their order round.
    scaled = torch.where(largest != 0, corrected / largest.abs(), 0.0)
    is_local = users.chosen("scale", "local")
    if not bool(is_local.any()):
        return torch.sigmoid(scaled)
    lengths = torch.ones_like(corrected)
    for slot in users.layout.slots:
        rows = corrected[:, slot.slice].reshape(len(corrected), -1, slot.shape[-1]).double()
        length = rows.square().sum(2, keepdim=True).sqrt().clamp(min=1e-12).float()
        lengths[:, slot.slice] = length.expand(-1, -1, slot.shape[-1]).flatten(1)
    return torch.sigmoid(torch.where(is_local[:, None], corrected / lengths, scaled))


def _rule(seen: Seen) -> Tensor:
    users, decay = seen.users, seen.users.column("decay")
    utility, updates = seen.state["utility"], seen.state["updates"]
    utility.mul_(decay).add_((1.0 - decay) * (-seen.grads * seen.params))
    updates += 1
    free = 1.0 - gates(users, utility, (1.0 - users.options["decay"] ** updates).float()[:, None])
    size = users.column("noise")
    noise = normal(users, seen.number.tolist(), size[:, 0] > 0) * size * free
    held = torch.where(users.chosen("gate", "all")[:, None], free, 1.0)
    rate = users.hyper.learning_rate
    kept = (1.0 - rate * users.hyper.weight_decay).float()[:, None]
    return kept * seen.params - rate.float()[:, None] * (seen.grads * held + noise)


def _settings(users: Users) -> list[Tensor]:
    """For the kernels."""
    words = (("gate", "all"), ("scale", "local"), ("largest", "raw"))
    return [users.options["decay"], users.options["noise"], *(users.chosen(name, word) for name, word in words)]


upgd = Method(
    is_neutral=lambda options: options["gate"] == "noise" and options["noise"] == 0,
    begin=_begin,
    rule=KernelHook(_rule, "protect", _settings, draws=lambda users: users.options["noise"] > 0),
)
