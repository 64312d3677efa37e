"""Calls of the training step on a GPU: from where members are, so many updates, and what stops a member."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fastplast_kernels.optimisers import Hyperparameters, coefficients_of_updates
from fastplast_kernels.train_step import gpu
from fastplast_kernels.train_step.launches import FUSED, PARTIALS, Step, update
from fastplast_kernels.wasserstein import buckets as ranks
from torch import Tensor


def begin(step: Step, hyper: Hyperparameters, steps: Tensor, limit: Tensor) -> None:
    """Readies all for members to make `limit` updates from where they are.

    Args:
        step: whose tables are those of the task, and whose state is that at the start.
        hyper: of `m` members, at most M; the others stay as they are.
        steps: `[m]` int64, updates made before this call.
        limit: `[m]` int64, updates of this call; 0 leaves a member as it is.
    """
    here = slice(len(steps))
    step.members.zero_()
    step.members[here, gpu.LIMIT] = limit
    step.sums.zero_()
    step.streams[here, 2] = steps
    step.coefficients[:, here] = coefficients_of_updates(hyper, steps, step.steps, step.optimizer, step.decoupled)
    if step.buckets is not None:
        ranks.clear(step.buckets)
        ranks.warm_up(step.buckets, step.params)
        ranks.insert(step.buckets, step.params)
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
    """Trains members on the minibatches of ``step.order``, changing what follows `step` in place, at the very end.

    A member whose change is not finite is brought back to the start of the call and trained up to just before it.

    Args:
        step: from `allocate`; its tables are those of the task. It may have room for more members.
        params: `[m, P]` float32. So are m and v.
        m: first moments or momentum buffers.
        v: second moments; not touched by ``sgd``.
        steps: `[m]` int64, updates made so far.
        diverged: `[m]` int64, the update before which a member was frozen, or -1.
        hyper: of m members, on the device.
        updates: called with a number, makes so many updates; None for that many calls of `update`.

    Returns:
        Updates made `[m]` int64; sums of loss, error, mean |change| and Euclidean length of the change, `[m]` float64.
    """

    def directly(count: int) -> None:
        for _ in range(count):
            update(step)

    def call(limit: Tensor) -> None:
        begin(step, hyper, steps, limit)
        (updates or directly)(step.steps)
        finish(step)

    here = slice(len(params))
    pairs = [(step.params, params), (step.m, m)] + ([] if step.optimizer == "sgd" else [(step.v, v)])
    for own, given in pairs:
        own[here] = given
    call(torch.where(diverged < 0, step.steps, 0))
    made, sums = step.members[here, gpu.POSITION].clone(), step.sums[here, :4].clone()
    stopped = step.members[here, gpu.STOPPED].clone()
    broken = stopped == gpu.BY_UPDATE
    rows = torch.nonzero(broken).flatten()
    if len(rows):
        for own, given in pairs:
            own[rows] = given[rows]
        call(torch.where(broken, made, 0))
        sums[rows] = step.sums[rows, :4]
    frozen = torch.where(stopped != 0, steps + made, diverged)
    for own, given in pairs:  # nothing from here on takes memory: all of it happens, or nothing
        given.copy_(own[here])
    diverged.copy_(frozen)
    steps += made
    return made, *sums.unbind(1)
