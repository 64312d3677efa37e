"""Targets, penalties and gradients of many rows of float32 weights on a GPU, each call from a cold start."""

from __future__ import annotations

from math import ceil

import torch
from fastplast_kernels.wasserstein import gpu
from fastplast_kernels.wasserstein.buckets import allocate, deal, insert, scan, warm_up
from torch import Tensor


def target(w: Tensor, sorted_init: Tensor) -> Tensor:
    """`reference.target`, to the bit: five launches.

    Args:
        w: `[..., n]` float32.
        sorted_init: `[..., n]` float32, ascending; broadcasts against `w`.

    Returns:
        q `[..., n]`; NaN throughout a row that holds a NaN or an infinity.
    """
    return _targets(*_rows(w, sorted_init)).view(w.shape)


def penalty_and_gradient(w: Tensor, sorted_init: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """`reference.penalty_and_gradient`: six launches and a sum.

    Args:
        w: `[..., n]` float32.
        sorted_init: `[..., n]` float32, ascending; broadcasts against `w`.
        factor: c.

    Returns:
        ``c sum (w - q)^2`` `[...]` and ``2 c (w - q)`` `[..., n]`; NaN for a row that holds a NaN or an infinity.
    """
    rows, initial = _rows(w, sorted_init)
    members, length = rows.shape
    factors = torch.full((members,), 2.0 * factor, device=w.device)
    blocks = ceil(length / gpu.BLOCK)
    gradient, partial = torch.empty_like(rows), torch.empty(members, blocks, device=w.device)
    gpu.pull_kernel[blocks, members](
        rows, _targets(rows, initial), factors, gradient, partial, length, BLOCK=gpu.BLOCK, **gpu.OPTIONS
    )
    penalty = partial.double().sum(1).mul(factor).float()
    return penalty.view(w.shape[:-1]), gradient.view(w.shape)


def _targets(rows: Tensor, initial: Tensor) -> Tensor:
    members, length = rows.shape
    buckets = allocate(members, length, [(0, length)], rows.device)
    q = torch.full_like(rows, torch.nan)
    warm_up(buckets, rows)
    insert(buckets, rows)
    scan(buckets)
    deal(buckets, initial, q)
    return q


def _rows(w: Tensor, sorted_init: Tensor) -> tuple[Tensor, Tensor]:
    """Both `[R, n]`, contiguous."""
    n = w.shape[-1]
    return w.detach().reshape(-1, n).contiguous(), sorted_init.expand(w.shape).reshape(-1, n).contiguous()
