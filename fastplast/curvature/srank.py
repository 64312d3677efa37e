"""Stable rank: how many singular values it takes to hold 99 % of their sum."""

from __future__ import annotations

import torch
from torch import Tensor

MISSING = -1  # the stable rank of something that is not finite


def stable_rank(singular_values: Tensor, threshold: float = 0.99) -> Tensor:
    """Stable rank ``min { j : (s_1 + ... + s_j) / sum s > threshold }`` (arXiv 2312.00246, section 4).

    The inequality is strict: a share that equals the threshold up to the rounding of a sum of `D` numbers does not
    exceed it, so that the answer does not depend on the scale of the spectrum.

    Args:
        singular_values: `[..., D]`, in any order. Signs are dropped, so eigenvalues of a symmetric matrix will do.
        threshold: share of the sum, in (0, 1).

    Returns:
        `[...]` int64. 0 for a spectrum of zeros, -1 where a value is not finite.

    Raises:
        ValueError: if the threshold is not in (0, 1).
    """
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold must lie between 0 and 1: got {threshold}. The paper's value is 0.99.")
    values = singular_values.detach().double().abs()
    size = values.shape[-1]
    finite = values.isfinite().all(-1)
    if size == 0:
        return torch.zeros(values.shape[:-1], dtype=torch.int64, device=values.device)
    values = torch.where(finite.unsqueeze(-1), values, 0.0)
    largest = values.amax(-1, keepdim=True)
    values = values / torch.where(largest > 0, largest, 1.0)  # no sum can overflow or vanish
    # Ascending: the tail, which decides, is summed before it meets the large values.
    running = values.sort(-1).values.cumsum(-1)
    total = running[..., -1:]
    slack = size * torch.finfo(torch.float64).eps * total
    in_tail = (running < (1 - threshold) * total - slack).sum(-1)
    rank = torch.where(total.squeeze(-1) > 0, size - in_tail, 0)
    return torch.where(finite, rank, MISSING)


def matrix_stable_rank(matrices: Tensor, threshold: float = 0.99) -> Tensor:
    """Stable rank of matrices, for example weights `[M, O, I]` or features `[M, N, F]`.

    Singular values come from the matrix itself, reduced by a QR factorisation if it is much longer than wide. A Gram
    matrix would save a few milliseconds and round each to 1e-8 of the largest one, too much for a threshold near 1.

    Args:
        matrices: `[..., R, F]`.
        threshold: as in ``stable_rank``.

    Returns:
        `[...]` int64. 0 for a zero matrix, -1 where an entry is not finite.

    Raises:
        ValueError: if matrices have no rows or no columns, or the threshold is not in (0, 1).
    """
    if matrices.ndim < 2 or 0 in matrices.shape[-2:]:
        raise ValueError(f"matrices must be [..., R, F] with R, F > 0: got shape {tuple(matrices.shape)}.")
    values = matrices.detach().double()
    if values.shape[-1] > values.shape[-2]:
        values = values.transpose(-1, -2)
    finite = values.isfinite().flatten(-2).all(-1)
    values = torch.where(finite[..., None, None], values, 0.0)
    if values.shape[-2] > 2 * values.shape[-1]:
        values = torch.linalg.qr(values, mode="r").R
    rank = stable_rank(torch.linalg.svdvals(values), threshold)
    return torch.where(finite, rank, MISSING)
