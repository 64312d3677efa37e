"""Stable ranks from a part of the Hessian that is found without products: structure in place of Krylov steps.

The residual part R is block diagonal over hidden units, and the inputs of a unit matter in few directions: the rows of
the Hessian that belong to one unit have rapidly falling singular values. Rotating each unit's incoming coordinates by
their left singular vectors and keeping those of large row norm gives a compression whose coupling to the rest is small
in first order and nearly irrelevant in second; ``certificate.certify`` says how much. Where R outweighs G altogether,
as after labels were shuffled under a confident network, its own eigenvalues will do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastplast.curvature.batches import Eigenvalues, Steps
from fastplast.curvature.certificate import Certificate, Compression, certify, coupling_norms
from fastplast.curvature.coordinates import Coordinates
from fastplast.curvature.hessian import Residual
from fastplast.curvature.srank import stable_rank

WORTHWHILE = 0.66  # of D: a larger part costs a third of all eigenvalues or more, and may fail
_SPENT = 0.5  # of the time of all eigenvalues: what attempts may cost together
_WORTHWHILE_SMOOTH = 0.4  # where units have second derivatives, whose many small eigenvalues seldom let bounds close
_TARGET = 0.0025  # of the stable rank, the width aimed at in the next attempts
_ATTEMPTS = 3


def truncated_certificate(
    hessian: Tensor, coords: Coordinates, residual: Residual, threshold: float, max_share: float = WORTHWHILE
) -> Steps[tuple[Certificate, Tensor] | None]:
    """Certifies the stable rank from the leading local coordinates.

    Args:
        hessian: `[D, D]`.
        coords: coordinates of the member.
        residual: of the member.
        threshold: of the stable rank.
        max_share: share of the coordinates that may be kept.

    Returns:
        Steps to the last certificate and the eigenvalues `[k]` of the part; None if no part is worth an attempt.
    """
    if residual.incoming is not None:
        max_share = min(max_share, _WORTHWHILE_SMOOTH)
    rotation, norms, order = _directions(hessian, coords)
    incoming, dimension = len(order), len(hessian)
    squares = _from_the_end(norms.square())  # at least |B|_F^2 without all but the first n coordinates
    count = int((squares > _guess(hessian, norms, threshold)).sum())
    if count + dimension - incoming > max_share * dimension:
        return None
    local = _localise(hessian, rotation, order, max_share)
    best, spent = None, 0.0
    for _ in range(_ATTEMPTS):
        share = (count + dimension - incoming) / dimension
        spent += share**3
        if share > max_share or (best and spent > _SPENT):
            break
        known = yield from _compression(local, count, residual)
        found = certify(known, threshold)
        best = (found, known.ritz)
        if bool(found.closed) or count == incoming:
            break
        # Each singular value near the threshold is worth one count; the uncertainty falls as |B|_F^2 or faster.
        value = known.ritz.abs().sort(descending=True).values[min(int(found.estimate), len(known.ritz)) - 1]
        wanted = max(1.0, _TARGET * int(found.estimate)) * value
        uncertain = found.nuclear_hi - found.nuclear_lo
        count = max(int((squares * (uncertain / squares[count]) > wanted).sum()), count + 1)
    return best


def _guess(hessian: Tensor, norms: Tensor, threshold: float) -> Tensor:
    """Square of the coupling at which the bounds are likely to close, before any eigenvalue is known.

    The interval of singular values is about |B|_F^2 / s wide, s the value at the threshold, and each s
    is worth one count. Row norms, which fall more slowly than singular values, stand in for these.
    """
    norms = torch.cat((norms, torch.linalg.vector_norm(hessian[len(norms) :], dim=1)))
    norms = norms.sort(descending=True).values
    rank = (0.85 * stable_rank(norms, threshold)).long()
    return _TARGET * rank * norms[rank].square()


def residual_certificate(residual: Residual, gauss_newton_trace: float, dimension: int, threshold: float) -> tuple:
    """Certifies the stable rank from R alone: H differs from it by G, whose singular values sum to its trace.

    Args:
        residual: of the member.
        gauss_newton_trace: tr G.
        dimension: D.
        threshold: of the stable rank.

    Returns:
        The certificate and the eigenvalues of R.
    """
    values = residual.eigenvalues
    zero = values.new_zeros(())
    if values.numel() == 0:
        values = values.new_zeros(1)
    size = max(dimension, len(values))
    known = Compression(values, zero, zero, zero, zero, zero, zero, None, size, gauss_newton_trace)
    return certify(known, threshold), values


@dataclass(frozen=True)
class _Local:
    """The Hessian with its incoming coordinates rotated within each unit, those of large row norm first.

    Attributes:
        matrix: `[L, D]`, the first rows: outgoing coordinates as they were, then incoming ones in ``order``.
        diagonal: `[D]`, of the whole.
        rotation: `[K, r, r]`, columns are the local directions.
        order: `[K r]`, incoming coordinates by descending row norm.
        size: Frobenius norm of the Hessian.
    """

    matrix: Tensor
    diagonal: Tensor
    rotation: Tensor
    order: Tensor
    size: Tensor


def _directions(hessian: Tensor, coords: Coordinates) -> tuple[Tensor, Tensor, Tensor]:
    """Each unit's directions by the norm of their rows: rotation `[K, r, r]`, norms `[K r]` descending, their order."""
    _, active, _, inputs, _ = coords.sizes
    rows = hessian[: active * inputs].unflatten(0, (active, inputs))
    squares, rotation = torch.linalg.eigh(rows @ rows.transpose(1, 2))
    norms, order = squares.clamp(min=0).sqrt().flatten().sort(descending=True)
    return rotation, norms, order


def _localise(hessian: Tensor, rotation: Tensor, order: Tensor, max_share: float) -> _Local:
    """Rotates the Hessian into the directions of the units; of its rows as many are made as may be kept."""
    active, inputs, _ = rotation.shape
    dimension, incoming = len(hessian), active * inputs
    outgoing = dimension - incoming
    kept = order[: max(0, math.ceil(max_share * dimension) - outgoing)]
    rows = hessian[:incoming].unflatten(0, (active, inputs))
    left = rotation.transpose(1, 2)
    rows = (left @ rows).flatten(0, 1)
    both = torch.bmm(left, rows[:, :incoming].unflatten(1, (active, inputs)).permute(1, 2, 0)).flatten(0, 1)
    matrix = hessian.new_empty(outgoing + len(kept), dimension)
    matrix[:outgoing, :outgoing] = hessian[incoming:, incoming:]
    matrix[:outgoing, outgoing:] = rows[:, incoming:].index_select(0, order).T
    matrix[outgoing:, :outgoing] = matrix[:outgoing, outgoing:].T[: len(kept)]
    matrix[outgoing:, outgoing:] = both.index_select(0, kept).index_select(1, order)
    diagonal = torch.cat((hessian.diagonal()[incoming:], both.diagonal()[order]))
    return _Local(matrix, diagonal, rotation, order, torch.linalg.vector_norm(hessian))


def _compression(local: _Local, count: int, residual: Residual) -> Steps[Compression]:
    """The compression to all outgoing and the first of the incoming coordinates."""
    dimension = len(local.diagonal)
    kept = dimension - len(local.order) + count
    part, coupling = local.matrix[:kept, :kept], local.matrix[:kept, kept:]
    part = (part + part.T) / 2
    nuclear, norm, largest = coupling_norms(coupling.T)
    square = local.size.square()
    remaining = square - torch.linalg.vector_norm(part).square() - 2 * norm.square()
    ritz = yield Eigenvalues(part)
    return Compression(
        ritz=ritz,
        coupling_nuclear=nuclear,
        coupling_norm=norm,
        coupling_largest=largest,
        complement_trace=local.diagonal[kept:].sum(),
        complement_norm=(remaining.clamp(min=0) + 1e-13 * square).sqrt(),
        complement_negative=_dropped_negative(residual, local.rotation, local.order[count:]),
        negatives=residual.negatives,
        dimension=dimension,
    )


def _dropped_negative(residual: Residual, rotation: Tensor, dropped: Tensor) -> Tensor:
    """Sum of |negative eigenvalues| of R among the dropped coordinates, at least that of H among them.

    All outgoing coordinates are kept, so only incoming weights of a unit are left there.
    """
    if residual.incoming is None:
        return residual.coupling.new_zeros(())
    active, inputs, _ = rotation.shape
    mask = rotation.new_zeros(active * inputs)
    mask[dropped] = 1.0
    directions = rotation * mask.view(active, 1, inputs)
    blocks = directions.transpose(1, 2) @ residual.incoming[:active] @ directions
    return -torch.linalg.eigvalsh((blocks + blocks.transpose(1, 2)) / 2).clamp(max=0).sum()


def _from_the_end(values: Tensor) -> Tensor:
    return values.flip(0).cumsum(0).flip(0)
