"""Synthetic spectra, matrices that have them, and compressions of these matrices to any basis."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.curvature.certificate import Compression, coupling_norms
from fastplast.curvature.synthetic import conjugate, spectra

__all__ = ["F64", "compress", "conjugate", "families", "orthogonal", "rank_on_paper"]

F64 = torch.float64


def orthogonal(size: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, dtype=F64, generator=generator)).Q


def families(size: int) -> dict[str, tuple[Tensor, int]]:
    """Spectra with the stable rank that follows from their definition on paper."""
    return {name: (values, rank_on_paper(values)) for name, values in spectra(size).items()}


def rank_on_paper(values: Tensor) -> int:
    """The definition, one value at a time in Python's exact sums."""
    import math

    ordered = sorted(values.abs().tolist(), reverse=True)
    total = math.fsum(ordered)
    if total == 0.0:
        return 0
    return next(j for j in range(1, len(ordered) + 1) if math.fsum(ordered[:j]) > 0.99 * total * (1 + 1e-13))


def compress(
    matrix: Tensor,
    basis: Tensor,
    psd_gap_of: Tensor | None = None,
    *,
    knows_rest: bool = True,
    noise: Tensor | None = None,
) -> Compression:
    """What the certificate may know of a matrix in an orthonormal basis `[D, k]`.

    Args:
        matrix: `[D, D]`.
        basis: `[D, k]`.
        psd_gap_of: R with matrix - R >= 0, if there is one.
        knows_rest: whether the negative mass of the rest is bounded by that of R.
        noise: symmetric, added to what is described.
    """
    perturbation = 0.0
    if noise is not None:
        matrix, perturbation = matrix + noise, torch.linalg.eigvalsh(noise).abs().sum()
    whole = torch.linalg.qr(torch.cat((basis, torch.eye(len(matrix), dtype=F64)), 1)).Q[:, : len(matrix)]
    rest_basis = whole[:, basis.shape[1] :]
    rest_basis = rest_basis - basis @ (basis.T @ rest_basis)
    product = matrix @ basis
    kept = basis.T @ product
    coupling = product - basis @ kept
    rest = rest_basis.T @ matrix @ rest_basis
    negatives, complement_negative = None, torch.tensor(torch.inf, dtype=F64)
    if psd_gap_of is not None:
        values = torch.linalg.eigvalsh(psd_gap_of)
        negatives = (-values[values < 0]).sort(descending=True).values
        if knows_rest and rest.numel():
            inner = torch.linalg.eigvalsh(rest_basis.T @ psd_gap_of @ rest_basis)
            complement_negative = -inner.clamp(max=0).sum()
        elif knows_rest:
            complement_negative = torch.zeros((), dtype=F64)
    nuclear, norm, largest = coupling_norms(coupling, group=3)
    return Compression(
        ritz=torch.linalg.eigvalsh((kept + kept.T) / 2),
        coupling_nuclear=nuclear,
        coupling_norm=norm,
        coupling_largest=largest,
        complement_trace=matrix.trace() - kept.trace(),
        complement_norm=torch.linalg.vector_norm(rest),
        complement_negative=complement_negative,
        negatives=negatives,
        dimension=len(matrix),
        perturbation=perturbation,
    )
