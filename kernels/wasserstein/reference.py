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
        sorted_init: `[..., n]`, ascending; broadcasts against `w`.

    Returns:
        q `[..., n]` with ``q = sorted_init[rank(w)]``; NaN throughout a row that holds a NaN or an infinity.
    """
    q = sorted_init.expand_as(w).gather(-1, rank(w))
    return q.where(w.isfinite().all(dim=-1, keepdim=True), torch.nan)


def penalty(w: Tensor, sorted_init: Tensor, reduction: str = "mean") -> Tensor:
    """The squared distance, differentiable.

    Args:
        w: `[..., n]`.
        sorted_init: `[..., n]`, ascending.
        reduction: ``mean`` (c = 1/n) or ``sum`` (c = 1).

    Returns:
        `[...]`.

    Raises:
        ValueError: if `reduction` is neither.
    """
    distance = (w - target(w.detach(), sorted_init)).square()
    return distance.sum(-1) * coefficient(reduction, w.shape[-1])


def penalty_and_gradient(w: Tensor, sorted_init: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """The squared distance and its gradient, as formulas.

    Args:
        w: `[..., n]`.
        sorted_init: `[..., n]`, ascending; broadcasts against `w`.
        factor: c.

    Returns:
        ``c sum (w - q)^2`` `[...]` and ``2 c (w - q)`` `[..., n]`; NaN for a row that holds a NaN or an infinity.
    """
    distance = w - target(w, sorted_init)
    return distance.square().sum(-1) * factor, distance * (2.0 * factor)


def coefficient(reduction: str, n: int) -> float:
    """The factor c of a row.

    Args:
        reduction: ``mean`` or ``sum``.
        n: number of weights in the row.

    Returns:
        1/n or 1.

    Raises:
        ValueError: if `reduction` is neither.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be mean or sum: got {reduction!r}. Use mean for c = 1/n, the paper's.")
    return 1.0 / n if reduction == "mean" else 1.0
