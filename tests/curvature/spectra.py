"""Synthetic spectra, matrices that have them, and compressions of these matrices to any basis."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.curvature.certificate import Compression, coupling_norms

F64 = torch.float64


def orthogonal(size: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, dtype=F64, generator=generator)).Q


def conjugate(values: Tensor, generator: torch.Generator) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    basis = orthogonal(len(values), generator)
    matrix = (basis * values) @ basis.T
    return (matrix + matrix.T) / 2


def families(size: int) -> dict[str, tuple[Tensor, int]]:
    """Spectra with the stable rank that follows from their definition on paper."""
    index = torch.arange(size, dtype=F64)
    ones = torch.ones(size, dtype=F64)

    def exponential(tau: float) -> Tensor:
        return torch.exp(-index / tau)

    def spikes(share: float) -> Tensor:
        return torch.cat((ones[:9], ones[9:] * 9 * share / (1 - share) / (size - 9)))

    def held(offset: float) -> Tensor:
        share = 0.99 * (1 + offset)
        return torch.cat((ones[:20] * share / 20, ones[20:] * (1 - share) / (size - 20)))

    signs = 1 - 2 * (index % 2)
    low = torch.where(index < 40, exponential(9.0), 0.0)
    copies = torch.repeat_interleave(torch.exp(-torch.arange(size, dtype=F64) / 2), 23)[:size]
    clusters = torch.exp(-(index // 12)) * (1 + 1e-8 * torch.sin(index))
    papyan = torch.cat((ones[:9] * 50, ones[9:99], ones[99:size] * 1e-3)) if size > 99 else ones
    made = {
        "identity": ones,
        "rank 1": torch.where(index == 0, 3.0, 0.0),
        "exponential 3": exponential(3.0),
        "exponential 30": exponential(30.0),
        "power 1": 1 / (index + 1),
        "power 1.5": (index + 1) ** -1.5,
        "spikes below the threshold": spikes(0.005),
        "spikes above the threshold": spikes(0.015),
        "outliers, bump and bulk": papyan,
        "plus and minus": exponential(25.0) * signs,
        "trace zero": torch.repeat_interleave(exponential(15.0), 2)[:size] * signs,
        "23 copies": copies,
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
    return {name: (values, rank_on_paper(values)) for name, values in made.items()}


def rank_on_paper(values: Tensor) -> int:
    """The definition, one value at a time in Python's exact sums."""
    import math

    ordered = sorted(values.abs().tolist(), reverse=True)
    total = math.fsum(ordered)
    if total == 0.0:
        return 0
    return next(j for j in range(1, len(ordered) + 1) if math.fsum(ordered[:j]) > 0.99 * total * (1 + 1e-13))


def compress(
    matrix: Tensor, basis: Tensor, psd_gap_of: Tensor | None = None, *, knows_rest: bool = True
) -> Compression:
    """What the certificate may know of a matrix in an orthonormal basis `[D, k]`.

    Args:
        matrix: `[D, D]`.
        basis: `[D, k]`.
        psd_gap_of: R with matrix - R >= 0, if there is one.
        knows_rest: whether the negative mass of the rest is bounded by that of R.
    """
    whole = torch.linalg.qr(torch.cat((basis, torch.eye(len(matrix), dtype=F64)), 1)).Q[:, : len(matrix)]
    rest_basis = whole[:, basis.shape[1] :]
    rest_basis = rest_basis - basis @ (basis.T @ rest_basis)
    product = matrix @ basis
    kept = basis.T @ product
    coupling = product - basis @ kept
    rest = rest_basis.T @ matrix @ rest_basis
    negatives, rest_negative = None, torch.tensor(torch.inf, dtype=F64)
    if psd_gap_of is not None:
        values = torch.linalg.eigvalsh(psd_gap_of)
        negatives = (-values[values < 0]).sort(descending=True).values
        if knows_rest and rest.numel():
            inner = torch.linalg.eigvalsh(rest_basis.T @ psd_gap_of @ rest_basis)
            rest_negative = -inner.clamp(max=0).sum()
        elif knows_rest:
            rest_negative = torch.zeros((), dtype=F64)
    nuclear, norm, largest = coupling_norms(coupling, group=3)
    return Compression(
        ritz=torch.linalg.eigvalsh((kept + kept.T) / 2),
        coupling_nuclear=nuclear,
        coupling_norm=norm,
        coupling_largest=largest,
        rest_trace=matrix.trace() - kept.trace(),
        rest_norm=torch.linalg.vector_norm(rest),
        rest_negative=rest_negative,
        negatives=negatives,
        dimension=len(matrix),
    )
