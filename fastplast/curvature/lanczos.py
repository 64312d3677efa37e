"""Block Lanczos for many symmetric matrices at once, until the certificate of each closes.

A block is wider than the clusters that curvature has (equal units give equal eigenvalues), every block is
orthogonalised twice against the whole basis, and T = Q'HQ is formed from the products themselves, so the certificate
holds whatever rounding did to the recurrence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastplast.curvature.certificate import Certificate, Compression, certify, coupling_norms

BLOCK = 32
GROW = 96  # columns between two checks of the certificate
_NULL = 1e-12  # of the Frobenius norm: a shorter column is rounding, and is refilled at random

Product = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class KnownSpectrum:
    """What is known of the spectra of the matrices, beside their products with vectors.

    Attributes:
        trace: `[M]`.
        norm: `[M]`, Frobenius norms.
        negatives: `M` tensors or None, as in ``Compression``.
    """

    trace: Tensor
    norm: Tensor
    negatives: Sequence[Tensor | None]


@dataclass(frozen=True)
class LanczosResult:
    """Of one member.

    Attributes:
        certificate: the last one.
        ritz: `[k]`, eigenvalues of T, ascending; k is the depth.
    """

    certificate: Certificate
    ritz: Tensor


def block_lanczos(
    product: Product,
    dimension: int,
    known: KnownSpectrum,
    *,
    threshold: float = 0.99,
    depth: int = 128,
    max_depth: int | None = None,
    block: int = BLOCK,
) -> list[LanczosResult]:
    """Grows a block Krylov space for every member until its certificate closes.

    A member whose certificate has closed is left out of all further products; it harms no other. A GPU is asked for
    values once per check of the certificates, beside what eigensolvers ask to see whether they have converged.

    Args:
        product: from the positions `[A]` of the members that still grow and directions `[A, D, b]` to H @ directions.
        dimension: D.
        known: traces, norms and bounds of the negative eigenvalues.
        threshold: of the stable rank.
        depth: columns before the first check of the certificate.
        max_depth: columns at which a member is given up; D if None.
        block: b.

    Returns:
        What was found for each member. A member with a trace or norm that is not finite is the caller's business.
    """
    members, device = len(known.norm), known.norm.device
    max_depth = dimension if max_depth is None else min(max_depth, dimension)
    block = min(block, dimension)
    names, growing = list(range(members)), torch.arange(members, device=device)
    basis = _random((dimension, block), 0, device).expand(members, -1, -1)
    basis = torch.linalg.qr(basis).Q
    products = product(growing, basis)
    found: list[LanczosResult | None] = [None] * members
    next_check = min(depth, max_depth)
    while len(growing):
        while basis.shape[2] < next_check:
            width = min(block, dimension - basis.shape[2])
            new = _next_block(basis, products[..., -block:][..., :width], known.norm[growing])
            basis, products = torch.cat((basis, new), 2), torch.cat((products, product(growing, new)), 2)
        checked = _certificates(basis, products, known, names, threshold)
        for name, one in zip(names, checked):
            found[name] = one
        closed = torch.stack([one.certificate.closed for one in checked]).tolist()
        if basis.shape[2] >= max_depth or all(closed):
            break
        if any(closed):
            names = [name for name, done in zip(names, closed) if not done]
            going = torch.tensor([place for place, done in enumerate(closed) if not done], device=device)
            growing, basis, products = growing[going], basis[going], products[going]
        next_check = min(next_check + GROW, max_depth)
    return [one for one in found if one is not None]


def _next_block(basis: Tensor, last: Tensor, norm: Tensor) -> Tensor:
    """Orthonormal `[A, D, b]` outside the basis: the new part of the last products, refilled where it vanishes."""
    new, triangle = torch.linalg.qr(last - basis @ (basis.transpose(1, 2) @ last))
    null = triangle.diagonal(dim1=1, dim2=2).abs() <= _NULL * norm[:, None]
    noise = _random(new.shape[1:], basis.shape[2], basis.device)
    new = torch.where(null.unsqueeze(1), noise, new)
    for _ in range(2):
        new = torch.linalg.qr(new - basis @ (basis.transpose(1, 2) @ new)).Q
    return new


def _certificates(
    basis: Tensor, products: Tensor, known: KnownSpectrum, members: Sequence[int], threshold: float
) -> list[LanczosResult]:
    """What the basis `[A, D, k]` and its products tell of members; eigenvalues of all are one batch."""
    _, dimension, depth = basis.shape
    parts = torch.stack([own.T @ image for own, image in zip(basis, products)])
    couplings = torch.stack([image - own @ part for own, image, part in zip(basis, products, parts)])
    parts = (parts + parts.transpose(1, 2)) / 2
    ritz = torch.linalg.eigvalsh(parts)
    found = []
    for member, part, own, (nuclear, norm, largest) in zip(members, parts, ritz, _coupling_norms(couplings)):
        square = known.norm[member].square()
        remaining = square - torch.linalg.vector_norm(part).square() - 2 * norm.square()
        remaining = (remaining.clamp(min=0) + 1e-13 * square).sqrt() if depth < dimension else torch.zeros_like(norm)
        compression = Compression(
            ritz=own,
            coupling_nuclear=nuclear,
            coupling_norm=norm,
            coupling_largest=largest,
            complement_trace=known.trace[member] - own.sum() if depth < dimension else torch.zeros_like(norm),
            complement_norm=remaining,
            complement_negative=torch.full_like(norm, torch.inf),
            negatives=known.negatives[member],
            dimension=dimension,
        )
        found.append(LanczosResult(certify(compression, threshold), own))
    return found


def _coupling_norms(couplings: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """``coupling_norms`` of each of `[A, D, k]`; the small eigenvalue problems of all members are one batch."""
    if len(couplings) == 1:
        return [coupling_norms(couplings[0].T)]
    return list(zip(*torch.func.vmap(coupling_norms)(couplings.transpose(1, 2))))


def _random(shape: tuple[int, ...] | torch.Size, seed: int, device: torch.device) -> Tensor:
    """The same numbers for every member, in any company and on any device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, non_blocking=True) / shape[0] ** 0.5
