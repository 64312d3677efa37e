"""Spectra with known stable ranks, and symmetric matrices that have them."""

from __future__ import annotations

import torch
from torch import Tensor


def spectra(size: int) -> dict[str, Tensor]:
    """Families that are hard on one method or another: clusters, pairs of signs, bulks near the threshold, scales.

    Args:
        size: D, at least 60.

    Returns:
        Name to `[D]` fp64 eigenvalues.
    """
    index = torch.arange(size, dtype=torch.float64)
    ones = torch.ones_like(index)

    def exponential(tau: float) -> Tensor:
        return torch.exp(-index / tau)

    def spikes(share: float) -> Tensor:
        return torch.cat((ones[:9], ones[9:] * 9 * share / (1 - share) / (size - 9)))

    def held(offset: float) -> Tensor:
        share = 0.99 * (1 + offset)
        return torch.cat((ones[:20] * share / 20, ones[20:] * (1 - share) / (size - 20)))

    signs = 1 - 2 * (index % 2)
    low = torch.where(index < 40, exponential(9.0), 0.0)
    clusters = torch.exp(-(index // 12)) * (1 + 1e-8 * torch.sin(index))
    return {
        "identity": ones,
        "rank 1": 3.0 * (index == 0).double(),
        "exponential 3": exponential(3.0),
        "exponential 30": exponential(30.0),
        "exponential 50": exponential(50.0),
        "power 1": 1 / (index + 1),
        "power 1.5": (index + 1) ** -1.5,
        "spikes below the threshold": spikes(0.005),
        "spikes above the threshold": spikes(0.015),
        "outliers, bump and bulk": torch.cat((ones[:9] * 50, ones[9:99], ones[99:] * 1e-3)),
        "plus and minus": exponential(25.0) * signs,
        "trace zero": torch.repeat_interleave(exponential(15.0), 2)[:size] * signs,
        "23 copies": torch.repeat_interleave(torch.exp(-index / 2), 23)[:size],
        "32 copies of both signs": torch.repeat_interleave(exponential(2.0) * signs, 32)[:size],
        "clusters": clusters,
        "clusters of both signs": clusters * signs,
        "rank 40": low,
        "rank 40 over a floor": low + 1e-9,
        "tiny": exponential(20.0) * 1e-20,
        "huge": exponential(20.0) * 1e15 * signs,
        "just above the threshold": held(1e-6),
        "just below the threshold": held(-1e-6),
        "zero": 0 * ones,
    }


def conjugate(values: Tensor, generator: torch.Generator) -> Tensor:
    """A symmetric matrix with these eigenvalues in a random orthonormal basis.

    Args:
        values: `[D]` fp64.
        generator: of the basis.

    Returns:
        `[D, D]`.
    """
    normal = torch.randn(len(values), len(values), dtype=values.dtype, generator=generator)
    basis = torch.linalg.qr(normal).Q
    matrix = (basis * values) @ basis.T
    return (matrix + matrix.T) / 2
