"""Calls of the training step on a GPU: from where members are, so many updates, and what stops a member."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fastplast_kernels.mlp_step import gpu
from fastplast_kernels.mlp_step.launches import FUSED, PARTIALS, Step, update
from fastplast_kernels.update import Hyperparameters
from fastplast_kernels.update.launches import coefficients as adam_coefficients
from fastplast_kernels.wasserstein import buckets as ranks
from torch import Tensor


def coefficients(hyper: Hyperparameters, steps: Tensor, optimizer: str, decoupled: bool) -> Tensor:
    """The table of `gpu.NUM_COEFFICIENTS` columns, formed in float64 and rounded once.

    Args:
        hyper: of M members.
        steps: `[M]`, number of this update for each member, from 1.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay is.

    Returns:
        `[M, 10]` float32.
    """
    table = adam_coefficients(hyper, steps)
    if optimizer == "sgd":
        table[:, 0], table[:, 4] = hyper.momentum.float(), hyper.learning_rate.float()
    zero = torch.zeros_like(hyper.weight_decay)
    keep, decay = 1.0 - hyper.learning_rate * hyper.weight_decay, hyper.weight_decay
    decays = (keep, zero) if decoupled else (zero + 1.0, decay)
    return torch.cat((table, torch.stack(decays, 1).float()), 1)


def begin(step: Step, params: Tensor, hyper: Hyperparameters, steps: Tensor, limit: Tensor) -> None:
    """Readies all for members to make `limit` updates from where they are.

    Args:
        step: whose tables are those of the task.
        params: `[M, P]`, as at the start of the call.
        hyper: of M members.
        steps: `[M]` int64, updates made before this call.
        limit: `[M]` int64, updates of this call; 0 leaves a member as it is.
    """
    step.members.zero_()
    step.members[:, gpu.LIMIT] = limit
    step.sums.zero_()
    number = steps + torch.arange(1, step.steps + 1, device=steps.device)[:, None]
    every = Hyperparameters(*(value.repeat(step.steps) for value in hyper))
    table = coefficients(every, number.flatten(), step.optimizer, step.decoupled)
    step.coefficients.copy_(table.view_as(step.coefficients))
    if step.anchor is not None and step.pull == gpu.PULL_TO_TARGET:
        if step.buckets is not None:
            ranks.clear(step.buckets)
            ranks.warm_up(step.buckets, params)
            ranks.insert(step.buckets, params)
            ranks.scan(step.buckets)
            ranks.deal(step.buckets, step.anchor, step.q)
        step.q.copy_(torch.where(step.ranked[:, None] != 0, step.q, step.anchor))


def finish(step: Step) -> None:
    """Confirms the last update: one launch."""
    tiles = step.tiles.shape[0]
    gpu.confirm_kernel[(len(step.members),)](
        step.members, step.sums, step.partial, tiles, step.count, BLOCK=PARTIALS, num_warps=1, **FUSED
    )


def train(
    step: Step,
    params: Tensor,
    m: Tensor,
    v: Tensor,
    steps: Tensor,
    diverged: Tensor,
    hyper: Hyperparameters,
    updates: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Trains members on the minibatches of ``step.order``, changing what follows `step` in place.

    A member whose change is not finite is brought back to the start of the call and trained up to just before it.

    Args:
        step: from `allocate`; its tables are those of the task.
        params: `[M, P]` float32, contiguous. So are m and v.
        m: first moments or momentum buffers.
        v: second moments; not touched by ``sgd``.
        steps: `[M]` int64, updates made so far.
        diverged: `[M]` int64, the update before which a member was frozen, or -1.
        hyper: of M members, on the device.
        updates: called with a number, makes so many updates; None for that many calls of `update`.

    Returns:
        Updates made `[M]` int64; sums of loss, error, mean |change| and Euclidean length of the change, `[M]` float64.
    """

    def directly(count: int) -> None:
        for _ in range(count):
            update(step, params, m, v)

    state = (params, m, v)
    before = [tensor.clone() for tensor in state]
    begin(step, params, hyper, steps, torch.where(diverged < 0, step.steps, 0))
    (updates or directly)(step.steps)
    finish(step)
    made, sums = step.members[:, gpu.POSITION].clone(), step.sums[:, :4].clone()
    stopped = step.members[:, gpu.STOPPED].clone()
    broken = stopped == gpu.BY_UPDATE
    if bool(broken.any()):
        for tensor, old in zip(state, before):
            tensor.copy_(torch.where(broken[:, None], old, tensor))
        begin(step, params, hyper, steps, torch.where(broken, made, 0))
        (updates or directly)(step.steps)
        finish(step)
        sums = torch.where(broken[:, None], step.sums[:, :4], sums)
    diverged.copy_(torch.where(stopped != 0, steps + made, diverged))
    steps += made
    return made, *sums.unbind(1)
