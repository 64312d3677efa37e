"""Launches of the fused update in `gpu`."""

from __future__ import annotations

import torch
from fastplast_kernels.update import gpu
from fastplast_kernels.update.reference import Hyperparameters
from fastplast_kernels.wasserstein import gpu as wasserstein
from fastplast_kernels.wasserstein.buckets import Buckets
from torch import Tensor


def coefficients(hyper: Hyperparameters, steps: Tensor) -> Tensor:
    """The table of `gpu.COEFFICIENTS` of one step.

    Args:
        hyper: of M members.
        steps: `[M]`, number of this update for each member, from 1.

    Returns:
        `[M, 8]` float32, formed in float64.
    """
    correction1, correction2 = 1.0 - hyper.beta1**steps, 1.0 - hyper.beta2**steps
    return torch.stack(
        [
            hyper.beta1, 1.0 - hyper.beta1, hyper.beta2, 1.0 - hyper.beta2,
            hyper.learning_rate / correction1, correction2.sqrt(), hyper.epsilon, 2.0 * hyper.strength,
        ],
        dim=1,
    ).float()  # fmt: skip


def adam(
    w: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    q: Tensor,
    table: Tensor,
    factor: Tensor,
    partial: Tensor,
    buckets: Buckets,
    insert: bool = True,
) -> None:
    """One step of Adam on the layers of `buckets`, in place, with the pull to q: one launch.

    Args:
        w: weights `[M, stride]` float32. With ``insert`` the new ones are inserted into `buckets`, after its maps were
            made by ``warm_up``; ``scan`` and ``deal`` then make the q of the next step.
        g: gradient of the loss `[M, stride]`.
        m: first moment `[M, stride]`.
        v: second moment `[M, stride]`.
        q: target `[M, stride]`.
        table: `[M, 8]` from `coefficients`.
        factor: `[L]` float32, c of each layer.
        partial: `[2, M, blocks]` float32, written: sums of (w - q)^2 and of |change of w| over each block.
        buckets: of the weights.
        insert: whether q depends on ranks.
    """
    gpu.adam_kernel[buckets.blocks.shape[0], w.shape[0]](
        w, g, m, v, q, table, factor, partial, buckets.layers, buckets.blocks, buckets.map, buckets.count,
        buckets.slab, buckets.spill, buckets.spill_bucket, buckets.spill_count, *buckets.strides,
        INSERT=insert, ALIGNED=buckets.aligned, CAPACITY=wasserstein.CAPACITY,
        NUM_CELLS=wasserstein.NUM_CELLS, SHIFT=wasserstein.SHIFT, BLOCK=wasserstein.BLOCK, **wasserstein.OPTIONS,
    )  # fmt: skip
