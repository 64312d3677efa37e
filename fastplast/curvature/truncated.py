"""Stable ranks from a part of the Hessian that is found without products: structure in place of Krylov steps.

The residual part R is block diagonal over hidden units, and the inputs of a unit matter in few directions: the rows of
the Hessian that belong to one unit have rapidly falling singular values. Rotating each unit's incoming coordinates by
their left singular vectors and keeping those of large row norm gives a compression whose coupling to the rest is small
in first order and nearly irrelevant in second; ``certificate.certify`` says how much. Where R outweighs G altogether,
as after labels were shuffled under a confident network, its own eigenvalues will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastplast.curvature.certificate import Certificate, Compression, certify, coupling_norms
from fastplast.curvature.coordinates import Coordinates
from fastplast.curvature.hessian import Residual

WORTHWHILE = 0.66  # of D: a larger part costs a third of all eigenvalues or more, and may fail
_WORTHWHILE_BENT = 0.4  # where units have second derivatives, whose many small eigenvalues seldom let bounds close
_FIRST = 0.03  # of the sum of singular values may be coupled to the rest in the first attempt
_TARGET = 0.0025  # of the stable rank, the width aimed at in the next attempts
_ATTEMPTS = 3


def truncated_certificate(
    hessian: Tensor, at: Coordinates, residual: Residual, threshold: float, most: float = WORTHWHILE
) -> tuple[Certificate, Tensor] | None:
    """Certifies the stable rank from the leading local coordinates.

    Args:
        hessian: `[D, D]`.
        at: coordinates of the member.
        residual: of the member.
        threshold: of the stable rank.
        most: share of the coordinates that may be kept.

    Returns:
        The last certificate and the eigenvalues `[k]` of the part; None if no part is worth an attempt.
    """
    local = _localise(hessian, at)
    incoming, dimension = len(local.order), len(hessian)
    always = dimension - incoming
    negatives = (-residual.eigenvalues[residual.eigenvalues < 0]).sort(descending=True).values
    # Dropping all but the first n coordinates leaves a coupling of at most these sums.
    sums, squares = _from_the_end(local.norms), _from_the_end(local.norms.square())
    total = torch.maximum(local.size, residual.eigenvalues.abs().sum() + hessian.trace().abs())
    if residual.bend is not None:
        most = min(most, _WORTHWHILE_BENT)
    count = int((sums > _FIRST / 2 * total).sum())
    best, spent = None, 0.0
    for _ in range(_ATTEMPTS):
        share = (count + always) / dimension
        if share > most or (best and spent + share**3 > most**3):
            break
        spent += share**3
        known = _compression(hessian, local, count, residual, negatives)
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
    """Incoming coordinates rotated within each unit; outgoing coordinates as they were.

    Attributes:
        rotation: `[K, r, r]`, columns are the local directions.
        rows: `[K r, D]`, rows of the Hessian in local directions, columns not yet rotated.
        order: `[K r]`, coordinates by descending row norm.
        norms: `[K r]`, row norms in that order.
        size: Frobenius norm of the Hessian.
    """

    rotation: Tensor
    rows: Tensor
    order: Tensor
    norms: Tensor
    size: Tensor


def _localise(hessian: Tensor, at: Coordinates) -> _Local:
    _, active, _, inputs, _ = at.sizes
    rows = hessian[: active * inputs].unflatten(0, (active, inputs))
    squares, rotation = torch.linalg.eigh(rows @ rows.transpose(1, 2))
    rows = (rotation.transpose(1, 2) @ rows).flatten(0, 1)
    norms, order = squares.clamp(min=0).sqrt().flatten().sort(descending=True)
    return _Local(rotation, rows, order, norms, torch.linalg.vector_norm(hessian))


def _compression(hessian: Tensor, local: _Local, count: int, residual: Residual, negatives: Tensor) -> Compression:
    """The compression to the first local coordinates and all that are not local."""
    active, inputs, _ = local.rotation.shape
    incoming = active * inputs
    kept, dropped = local.order[:count], local.order[count:]
    rows = torch.cat((local.rows[kept], hessian[incoming:]))
    left = rows[:, :incoming].unflatten(1, (active, inputs)).transpose(0, 1) @ local.rotation
    rows[:, :incoming] = left.transpose(0, 1).flatten(1)
    part = torch.cat((rows[:, kept], rows[:, incoming:]), 1)
    part = (part + part.T) / 2
    nuclear, norm, largest = coupling_norms(rows[:, dropped].T)
    ritz = torch.linalg.eigvalsh(part)
    square = local.size.square()
    rest = square - torch.linalg.vector_norm(part).square() - 2 * norm.square()
    return Compression(
        ritz=ritz,
        coupling_nuclear=nuclear,
        coupling_norm=norm,
        coupling_largest=largest,
        rest_trace=hessian.trace() - part.trace(),
        rest_norm=(rest.clamp(min=0) + 1e-13 * square).sqrt(),
        rest_negative=_dropped_negative(residual, local.rotation, dropped),
        negatives=negatives,
        dimension=len(hessian),
    )


def _dropped_negative(residual: Residual, rotation: Tensor, dropped: Tensor) -> Tensor:
    """Sum of |negative eigenvalues| of R among the dropped coordinates, at least that of H among them.

    All outgoing coordinates are kept, so only the bend of a unit is left there.
    """
    if residual.bend is None:
        return residual.coupling.new_zeros(())
    active, inputs, _ = rotation.shape
    mask = rotation.new_zeros(active * inputs)
    mask[dropped] = 1.0
    directions = rotation * mask.view(active, 1, inputs)
    blocks = directions.transpose(1, 2) @ residual.bend[:active] @ directions
    return -torch.linalg.eigvalsh((blocks + blocks.transpose(1, 2)) / 2).clamp(max=0).sum()


def _from_the_end(values: Tensor) -> Tensor:
    return values.flip(0).cumsum(0).flip(0)
