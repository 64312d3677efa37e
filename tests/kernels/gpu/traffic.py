"""What the launches of an update load and store, beside what an account says of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from fastplast_kernels.train_step import gpu
from fastplast_kernels.train_step.launches import Step, launches
from interpreter import counted_traffic
from mlp_account import Cost


def check_traffic(step: Step, account: Callable[[Step], Mapping[str, Cost]]) -> None:
    """Compares them for one member, in the interpreter; small tables may differ."""
    batch = torch.arange(step.batch)  # different images
    step.order.copy_(batch)
    step.rows.copy_(batch)
    step = replace(step, images=torch.zeros(step.batch, step.images.shape[1], dtype=torch.uint8))
    step.members[:, gpu.LIMIT] = 1
    step.coefficients.fill_(1.0)
    small = 8 * (step.table.numel() + step.factors.numel() + step.geometry.numel() + 40) + 12 * step.tiles.shape[0]
    for (name, cost), launch in zip(account(step).items(), launches(step), strict=True):
        with counted_traffic() as seen:
            launch()
        moved = seen.bytes_read + seen.bytes_written
        assert abs(moved - cost.bytes) <= small, f"{name}: {moved}, accounted for {cost.bytes}"
        assert seen.additions == 0
