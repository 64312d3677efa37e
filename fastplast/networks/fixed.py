"""Parameters and inputs that are the same everywhere: what a module computes with them tells it from others."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from fastplast import seeding
from fastplast.networks.layout import Layout


def fixed_parameters(layout: Layout) -> Tensor:
    """Normal numbers, of a weight matrix divided by the root of its fan-in.

    Args:
        layout: of the module.

    Returns:
        `[P]` float32.
    """
    row = torch.zeros(layout.size, dtype=torch.float32)
    for number, slot in enumerate(layout.slots):
        values = seeding.normal(0, "init", slot.count, number) / max(1, prod(slot.shape[1:])) ** 0.5
        row[slot.slice] = torch.from_numpy(values).float()
    return row


def fixed_inputs(count: int, size: int) -> Tensor:
    """Inputs in [-1, 1), `[count, size]` float32."""
    values = 2 * seeding.uniform(0, "pixels", count * size) - 1
    return torch.from_numpy(values).float().view(count, size)
