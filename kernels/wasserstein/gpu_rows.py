"""Targets, penalties and gradients of many rows of float32 weights on a GPU, each call from a cold start."""

from __future__ import annotations

from math import ceil

import torch
from fastplast_kernels.wasserstein import gpu
from fastplast_kernels.wasserstein.buckets import allocate, deal, insert, scan, warm_up
from torch import Tensor

MOST_ROWS = 65_535  # of a launch: the second axis of a CUDA grid


def target(w: Tensor, sorted_init: Tensor) -> Tensor:
    """`reference.target`, to the bit: five launches for each 65,535 rows.

    Args:
        w: `[..., n]` float32.
        sorted_init: `[..., n]` float32, ascending; broadcasts against `w`.

    Returns:
        q `[..., n]`; NaN throughout a row that holds a NaN or an infinity.
    """
    return _targets(*_rows(w, sorted_init)).view(w.shape)


def penalty_and_gradient(w: Tensor, sorted_init: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """`reference.penalty_and_gradient`: six launches for each 65,535 rows, and a sum.

    Args:
        w: `[..., n]` float32.
        sorted_init: `[..., n]` float32, ascending; broadcasts against `w`.
        factor: c.

    Returns:
        ``c sum (w - q)^2`` `[...]` and ``2 c (w - q)`` `[..., n]`; NaN for a row that holds a NaN or an infinity.
    """
    rows, initial = _rows(w, sorted_init)
    length = rows.shape[1]
    factors = torch.full((len(rows),), 2.0 * factor, device=w.device)
    blocks = ceil(length / gpu.BLOCK)
    gradient, partial = torch.empty_like(rows), torch.empty(len(rows), blocks, device=w.device)
    parts = (value.split(MOST_ROWS) for value in (rows, _targets(rows, initial), factors, gradient, partial))
    for part in zip(*parts):
        gpu.pull_kernel[blocks, len(part[0])](*part, length, BLOCK=gpu.BLOCK, **gpu.OPTIONS)
    penalty = partial.double().sum(1).mul(factor).float()
    return penalty.view(w.shape[:-1]), gradient.view(w.shape)


def _targets(rows: Tensor, initial: Tensor) -> Tensor:
    q = torch.full_like(rows, torch.nan)
    for some, sorted_some, found in zip(rows.split(MOST_ROWS), initial.split(MOST_ROWS), q.split(MOST_ROWS)):
        buckets = allocate(len(some), some.shape[1], [(0, some.shape[1])], rows.device)
        warm_up(buckets, some)
        insert(buckets, some)
        scan(buckets)
        deal(buckets, sorted_some, found)
    return q


def _rows(w: Tensor, sorted_init: Tensor) -> tuple[Tensor, Tensor]:
    """Both `[R, n]`, contiguous."""
    n = w.shape[-1]
    return w.detach().reshape(-1, n).contiguous(), sorted_init.expand(w.shape).reshape(-1, n).contiguous()
