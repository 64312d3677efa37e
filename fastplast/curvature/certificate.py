"""Certified bounds of a stable rank from a compression of the matrix to any orthonormal basis.

In a basis [Q, P] of the whole space a symmetric matrix reads H = [[T, B'], [B, C]]: T = Q'HQ is solved, the coupling B
and the complement C are known by a few norms. With s_1 >= s_2 >= ... = |eig(T)|, F_T(j) their first sums and |.|_1
the sum of singular values:

- Cauchy interlacing (Ky Fan): F_H(j) >= F_T(j); pinching: |H|_1 >= |T|_1 + |C|_1 (Bhatia, Matrix Analysis, ch. III-IV);
- triangle: |H|_1 <= |T|_1 + |C|_1 + 2|B|_1 and F_H(j) <= F_(T+C)(j) + 2|B|_1;
- second order: for s > |C|_2, sum (|eig H| - s)_+ <= sum (|eig T| - s)_+ + |B|_F^2 / (s - |C|_2), and
  F_H(j) <= j s + sum (|eig H| - s)_+ for every s. The left side is the largest tr HZ - s tr Z^2 over differences Z of
  two orthogonal projectors; by blocks it is at most the first sum of the right side and
  2 |B|_F |Z_21|_F - (s - |C|_2) tr (Z^2)_22, where tr (Z^2)_22 >= |Z_21|_F^2;
- |H|_1 = tr H + 2 tr(-H)_+ where, for every s > 0, tr(-H)_+ <= tr(-H - s)_+ + sum_i min(s, |negative eigenvalue i|),
  and the negative eigenvalues are bounded by those of R (H = G + R with G >= 0; Weyl) and by those of T plus |B|_2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_LEVELS = 96  # of s tried; any s gives a valid bound
_GROUP = 64  # rows of the coupling whose singular values are computed together


@dataclass(frozen=True)
class Compression:
    """What is known of a symmetric `[D, D]` matrix H = [[T, B'], [B, C]] in an orthonormal basis; fp64 scalars.

    Attributes:
        ritz: `[k]`, eigenvalues of T.
        coupling_nuclear: at least the sum of singular values of B.
        coupling_norm: Frobenius norm of B.
        coupling_largest: at least the largest singular value of B.
        complement_trace: trace of C.
        complement_norm: Frobenius norm of C, rounded up if anything.
        complement_negative: at least the sum of |negative eigenvalues| of C; infinite if nothing is known.
        negatives: `[p]`, |negative eigenvalues| of a matrix R with H - R >= 0, descending; None if none is known.
        dimension: D.
        perturbation: bounds the sum of singular values of a symmetric matrix by which H differs from what is described.
    """

    ritz: Tensor
    coupling_nuclear: Tensor
    coupling_norm: Tensor
    coupling_largest: Tensor
    complement_trace: Tensor
    complement_norm: Tensor
    complement_negative: Tensor
    negatives: Tensor | None
    dimension: int
    perturbation: float | Tensor = 0.0


@dataclass(frozen=True)
class Certificate:
    """Bounds; scalar tensors.

    Attributes:
        lo: int64, at most the stable rank.
        hi: int64, at least the stable rank.
        estimate: int64 in [lo, hi]: the stable rank of T beside the most likely |C|_1, with the coupling ignored, which
            changes it in second order only.
        nuclear_lo: at most the sum of singular values.
        nuclear_hi: at least the sum of singular values.
        nuclear: the sum of singular values that the estimate uses.
    """

    lo: Tensor
    hi: Tensor
    estimate: Tensor
    nuclear_lo: Tensor
    nuclear_hi: Tensor
    nuclear: Tensor

    @property
    def closed(self) -> Tensor:
        """Whether hi - lo is at most 1 or 1 % of hi."""
        return self.hi - self.lo <= torch.clamp(self.hi // 100, min=1)


def certify(known: Compression, threshold: float = 0.99) -> Certificate:
    """Bounds the stable rank of a matrix by what a compression tells; valid for every orthonormal basis.

    No value is read back from the device.

    Args:
        known: of the compression.
        threshold: of the stable rank.

    Returns:
        The certificate; 0 for a matrix of zeros.
    """
    values = known.ritz.abs().sort(descending=True).values
    count, complement_size = len(values), known.dimension - len(values)
    top = values.cumsum(0)
    kept, coupling = top[-1], known.coupling_norm
    size = (values.square().sum() + 2 * coupling.square() + known.complement_norm.square()).sqrt()
    slack = known.dimension * torch.finfo(values.dtype).eps * (8 * size + 2 * kept) + known.perturbation

    if known.negatives is not None:
        # Negative parts pinch as well: those of T and C together are no more than that of H, at most that of R.
        left = known.negatives.sum() - (-known.ritz).clamp(min=0).sum() + slack
        known = replace(known, complement_negative=torch.minimum(known.complement_negative, left.clamp(min=0)))
    complement_lo = 0 * kept
    if complement_size:
        complement_lo = torch.maximum(known.complement_trace.abs(), _frobenius_floor(known, size))
    complement_hi = torch.minimum(
        complement_size**0.5 * known.complement_norm, known.complement_trace + 2 * known.complement_negative
    )
    complement_hi = torch.maximum(complement_hi, complement_lo)
    nuclear_lo = kept + complement_lo - slack
    nuclear_hi = kept + complement_hi + 2 * known.coupling_nuclear
    if known.negatives is not None:
        trace = known.ritz.sum() + known.complement_trace
        nuclear_hi = torch.minimum(nuclear_hi, trace + 2 * (_negative_mass(known, size) + known.perturbation))
    nuclear_hi = nuclear_hi + slack

    top_hi = _top_sums(known, values, top) + slack
    ranks = torch.arange(1, count + 1, device=values.device)
    lo = 1 + torch.where(top_hi <= threshold * nuclear_lo, ranks, 0).amax()
    lo = torch.where(nuclear_lo > 0, lo, 0)  # the matrix may be zero
    enough = top - slack > threshold * nuclear_hi
    hi = torch.where(enough, ranks, known.dimension).amin()
    nuclear = kept + known.complement_trace.clamp(complement_lo, complement_hi)
    estimate = (1 + (top <= threshold * nuclear).sum()).clamp(lo, torch.maximum(lo, hi))
    zero = (size == 0) & (slack == 0)
    lo, hi, estimate = (torch.where(zero, 0, rank) for rank in (lo, hi, estimate))
    return Certificate(lo, hi, estimate, nuclear_lo.clamp(min=0), nuclear_hi, nuclear)


def coupling_norms(coupling: Tensor, group: int = _GROUP) -> tuple[Tensor, Tensor, Tensor]:
    """Norms of a coupling, cheaper than its singular values.

    The sum of singular values is at most that of groups of rows; a group's come from its small Gram matrix.

    Args:
        coupling: `[n, k]`.
        group: rows of a group.

    Returns:
        Upper bound of the sum of singular values, Frobenius norm, upper bound of the largest singular value.
    """
    norm = torch.linalg.vector_norm(coupling)
    if coupling.numel() == 0:
        return norm, norm, norm
    rows = -(-len(coupling) // group) * group
    if rows > len(coupling):
        coupling = torch.cat((coupling, coupling.new_zeros(rows - len(coupling), coupling.shape[1])))
    blocks = coupling.view(-1, group, coupling.shape[1])
    gram = blocks @ blocks.transpose(1, 2)
    squares = torch.linalg.eigvalsh(gram).clamp(min=0)
    # Rounding of a Gram matrix moves each square by at most a few eps |block|^2.
    rounding = 4 * group * torch.finfo(gram.dtype).eps * gram.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True)
    nuclear = (squares + rounding).sqrt().sum()
    largest = (squares.amax(-1) + rounding.squeeze(-1)).sum().sqrt()
    return nuclear, norm, torch.minimum(largest, norm)


def _frobenius_floor(known: Compression, size: Tensor) -> Tensor:
    """At most the Frobenius norm of C, whose square may have come from a difference of squares."""
    return (known.complement_norm.square() - 1e-12 * size.square()).clamp(min=0).sqrt()


def _top_sums(known: Compression, values: Tensor, top: Tensor) -> Tensor:
    """Upper bounds of the sums of the first singular values, `[k]`."""
    complement = known.complement_norm  # at least |C|_2
    tiny, square = torch.finfo(values.dtype).tiny, known.coupling_norm.square()
    ranks = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device)
    crossing = torch.minimum(ranks, (complement / values.clamp(min=tiny)).square())
    beyond = torch.where(values >= complement, 0.0, crossing.sqrt() * complement)
    bounds = top + beyond + 2 * known.coupling_nuclear
    gap = values - complement
    bounds = torch.where(gap > 0, torch.minimum(bounds, top + square / gap.clamp(min=tiny)), bounds)
    gap = values.amax() * torch.logspace(-8, 0, _LEVELS, dtype=values.dtype, device=values.device)
    levels = complement + gap
    above = (values - levels[:, None]).clamp(min=0).sum(1) + square / gap.clamp(min=tiny)
    return torch.minimum(bounds, (ranks * levels[:, None] + above[:, None]).amin(0))


def _negative_mass(known: Compression, size: Tensor) -> Tensor:
    """Upper bound of the sum of |negative eigenvalues| of H."""
    bounds = known.negatives
    assert bounds is not None
    negative = (-known.ritz).clamp(min=0)
    own = negative.new_zeros(len(bounds))
    kept = negative.sort(descending=True).values[: len(bounds)]
    own[: len(kept)] = kept
    bounds = torch.minimum(bounds, own + known.coupling_largest)
    levels = size * torch.logspace(-12, 0, _LEVELS, dtype=size.dtype, device=size.device)
    above = (negative - levels[:, None]).clamp(min=0).sum(1)
    below = torch.minimum(bounds, levels[:, None]).sum(1)
    coupled = known.coupling_norm.square() / levels.clamp(min=torch.finfo(size.dtype).tiny)
    return known.complement_negative + (above + below + coupled).amin()
