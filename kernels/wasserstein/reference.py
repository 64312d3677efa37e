"""The definition of the Wasserstein regulariser: plain torch sorts.

``W2^2(w, w0) = c * sum_i (w_(i) - w0_(i))^2`` for a weight matrix of d elements, sorted on both sides, c = 1/d or 1
(Lewandowski et al. 2023, arXiv 2312.00246, section 5). Its gradient is ``2 c (w - Q0[rank(w)])``, Q0 the sorted initial
weights: all that is needed of the sort is the rank.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rank(w: Tensor) -> Tensor:
    """Rank of every element within its row, from 0; ties in order of index, and -0 ties with +0.

    Args:
        w: `[..., n]`.

    Returns:
        `[..., n]` int64, a permutation of 0..n-1 in every row.
    """
    order = w.argsort(dim=-1, stable=True)
    numbers = torch.arange(w.shape[-1], device=w.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, numbers)


def target(w: Tensor, sorted_init: Tensor) -> Tensor:
    """What each weight is pulled to: the initial weight of the same rank.

    Args:
        w: `[..., n]`.
        sorted_init: `[..., n]`, ascending.

    Returns:
        q `[..., n]` with ``q = sorted_init[rank(w)]``.
    """
    return sorted_init.expand_as(w).gather(-1, rank(w))


def penalty(w: Tensor, sorted_init: Tensor, reduction: str = "mean") -> Tensor:
    """The squared distance, differentiable.

    Args:
        w: `[..., n]`.
        sorted_init: `[..., n]`, ascending.
        reduction: ``mean`` (c = 1/n) or ``sum`` (c = 1).

    Returns:
        `[...]`.
    """
    distance = (w - target(w.detach(), sorted_init)).square()
    return distance.mean(-1) if reduction == "mean" else distance.sum(-1)
