"""DASH: at a change of task rows of weights shrink that do not point where the new task's gradient pulls them."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.func import grad
from torch.nn import functional

from fastplast.losses import LOSSES
from fastplast.methods.method import Method, Seen
from fastplast.networks import Layout


def _descent(seen: Seen, m: int) -> Tensor:
    """Running mean `[P]` of the negative gradients of the new task's minibatches, in order, at the member's weights."""
    users, task, average = seen.users, seen.task, float(seen.users.options["average"][m])
    mean = LOSSES[task.loss].mean

    def loss(row: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return mean(users.network.logits(row, x), y)

    slope, found = grad(loss), torch.zeros_like(seen.params[m])
    for positions in torch.arange(task.num_examples, device=found.device).split(users.batch_size):
        x = task.inputs(positions.expand(task.num_members, -1))[m]
        found = (1.0 - average) * found - average * slope(seen.params[m], x, task.labels[m, positions])
    return found


def factors(layout: Layout, row: Tensor, descent: Tensor, least: float) -> Tensor:
    """What each parameter of a member is multiplied by.

    Args:
        layout: of the row.
        row: `[P]` parameters.
        descent: `[P]` direction of descent.
        least: no factor is less.

    Returns:
        `[P]`: the cosine between a row of a matrix, a kernel, or a whole bias, and its descent; at most 1.
    """
    found = torch.ones_like(row)
    for slot in layout.slots:
        width = prod(slot.shape[2:]) if len(slot.shape) > 2 else slot.count // prod(slot.shape[:-1])
        now, down = row[slot.slice].view(-1, width), descent[slot.slice].view(-1, width)
        cosine = functional.cosine_similarity(now, down, dim=1).clamp(least, 1.0)
        found[slot.slice] = cosine[:, None].expand(-1, width).reshape(-1)
    return found


def _at_task(seen: Seen) -> Tensor:
    least = seen.users.options["least"].tolist()
    return torch.stack([
        row * factors(seen.users.layout, row, _descent(seen, m), least[m]) for m, row in enumerate(seen.params)
    ])  # fmt: skip


dash = Method(
    is_neutral=lambda options: options["least"] == 1,
    at_task=_at_task,
)
