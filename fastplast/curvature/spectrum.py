"""What is reported about a Hessian, computed from its eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from fastplast.curvature.batches import Eigenvalues, Steps, run_one
from fastplast.curvature.certificate import Certificate
from fastplast.curvature.srank import MISSING, stable_rank

TOLERANCE = 1e-9  # of the identities; measured violations are below 1e-12


@dataclass(frozen=True)
class Curvature:
    """Curvature of `M` members; tensors are `[M]` on the CPU, fp64, int64 or bool.

    Missing values of a member that is not ``finite`` are -1 (integers) and NaN (floats).

    Attributes:
        srank: stable rank of the Hessian; 0 if it is zero. Where only bounds are certified it is the estimate between
            them that leaves out the coupling of what was solved to what was not, a second-order effect.
        srank_lo: certified lower end of the stable rank.
        srank_hi: certified upper end; both ends equal ``srank`` for the exact method.
        sharpness: largest singular value, max |eigenvalue|. By a method other than ``exact``, this and the measures
            down to ``negative_count`` are those of the part that was solved; the trace and, except by ``residual``, the
            Frobenius norm are always those of the Hessian. By ``truncated`` and ``lanczos`` it is a lower bound; by
            ``residual``, which solves H without its Gauss-Newton part, it is none.
        largest: largest eigenvalue.
        smallest: smallest eigenvalue of what was solved; directions that were left out may reach lower.
        trace: sum of eigenvalues.
        nuclear_norm: sum of |eigenvalues|, or where only bounds are certified the estimate that ``srank`` rests on.
        frobenius_norm: root of the sum of squared eigenvalues.
        negative_mass: share of the nuclear norm held by negative eigenvalues, in [0, 1]; 0 for a zero Hessian.
        negative_count: eigenvalues below minus the rounding error, dimension x 2.2e-16 x sharpness.
        overlap: g'Hg / (|g| |Hg|) of the gradient g of the block; NaN if g or Hg is zero.
        gradient_norm: |g|.
        residual_ratio: |R|_F / |G|_F of H = G + R, Gauss-Newton and residual; NaN where the parts are not known.
        residual_share: |R|_nuc / (|R|_nuc + |G|_nuc); NaN likewise.
        residual_srank: stable rank of R; -1 likewise.
        dimension: size of the Hessian without its exact null directions; the other ``block_size - dimension``
            eigenvalues are zero.
        depth: eigenvalues computed: ``dimension`` for the exact method, otherwise the size of the basis.
        zero: the Hessian is exactly zero.
        finite: the member could be measured.
        trace_error: |sum of eigenvalues - trace| / nuclear norm; the trace comes from the data, not from the matrix,
            where a closed form is known.
        frobenius_error: |sum of squared eigenvalues - |H|_F^2| / |H|_F^2.
        assembly_error: disagreement of the matrix with an independent computation, relative to |H|_F. For a tail the
            product Hg against the closed form, NaN if g is zero; for a generic block |H - H'|_F.
        seconds: wall time of the member's measurement.
        method: how each member was measured, `M` names.
        eigenvalues: `M` ascending fp64 vectors `[depth]`.
        block_size: parameters of the block.
        threshold: of the stable rank.
    """

    srank: Tensor
    srank_lo: Tensor
    srank_hi: Tensor
    sharpness: Tensor
    largest: Tensor
    smallest: Tensor
    trace: Tensor
    nuclear_norm: Tensor
    frobenius_norm: Tensor
    negative_mass: Tensor
    negative_count: Tensor
    overlap: Tensor
    gradient_norm: Tensor
    residual_ratio: Tensor
    residual_share: Tensor
    residual_srank: Tensor
    dimension: Tensor
    depth: Tensor
    zero: Tensor
    finite: Tensor
    trace_error: Tensor
    frobenius_error: Tensor
    assembly_error: Tensor
    seconds: Tensor
    method: tuple[str, ...]
    eigenvalues: tuple[Tensor, ...]
    block_size: int
    threshold: float

    @property
    def verified(self) -> Tensor:
        """`[M]` bool: finite, and every identity that could be checked holds to 1e-9."""
        errors = torch.stack((self.trace_error, self.frobenius_error, self.assembly_error))
        return self.finite & ~(errors > TOLERANCE).any(0)


INTEGERS = ("srank", "srank_lo", "srank_hi", "negative_count", "residual_srank", "dimension", "depth")
FLAGS = ("zero", "finite")
NOT_PER_MEMBER = ("block_size", "threshold")

Row = dict[str, Any]  # the fields of one member


def missing_row(method: str) -> Row:
    """The row of a member that cannot be measured.

    Args:
        method: as reported.

    Returns:
        A row of missing values.
    """
    row: Row = {field.name: float("nan") for field in fields(Curvature) if field.name not in NOT_PER_MEMBER}
    row.update(dict.fromkeys(INTEGERS, MISSING), zero=False, finite=False)
    row.update(method=method, eigenvalues=torch.empty(0, dtype=torch.float64))
    return row


@dataclass(frozen=True)
class ClosedForms:
    """What is known of a Hessian in closed form, to check the assembled one; u is the gradient over its norm.

    Attributes:
        trace: sum of its eigenvalues.
        product_norm: |H u|; NaN if the gradient is zero.
        quadratic: u'Hu; NaN likewise.
    """

    trace: float
    product_norm: float
    quadratic: float


@dataclass(frozen=True)
class Solution:
    """Eigenvalues of a Hessian, or of its part, and what they certify.

    Attributes:
        eigenvalues: `[k]`, ascending.
        certificate: of the stable rank.
        remaining_trace: trace of the Hessian minus the sum of the eigenvalues.
        remaining_square: sum of squares of the Hessian minus that of the eigenvalues.
        method: its name.
    """

    eigenvalues: Tensor
    certificate: Certificate
    remaining_trace: Tensor | float
    remaining_square: Tensor | float
    method: str


Solver = Callable[[Tensor, float], Steps[Solution]]


def exact_solution(hessian: Tensor, threshold: float) -> Steps[Solution]:
    """All eigenvalues.

    Args:
        hessian: `[D, D]`.
        threshold: of the stable rank.

    Returns:
        Steps to the solution, whose bounds meet.

    Raises:
        LinAlgError: if the eigensolver does not converge.
    """
    # An eigensolver on a GPU may refuse a matrix of zeros.
    zero = not bool(hessian.any())
    eigenvalues = hessian.new_zeros(len(hessian)) if zero else (yield Eigenvalues(hessian))
    rank, nuclear = stable_rank(eigenvalues, threshold), eigenvalues.abs().sum()
    return Solution(eigenvalues, Certificate(rank, rank, rank, nuclear, nuclear, nuclear), 0.0, 0.0, "exact")


def matrix_row(hessian: Tensor, gradient: Tensor, threshold: float) -> Row:
    """Solves for eigenvalues of one symmetric matrix and summarises them.

    Args:
        hessian: `[D, D]` fp64, symmetric; overwritten.
        gradient: `[D]` in the same coordinates.
        threshold: of the stable rank.

    Returns:
        A row; missing if an entry is not finite. ``seconds`` and what belongs to the parts of a tail are left missing,
        and so is ``assembly_error`` if nothing is known.

    Raises:
        LinAlgError: if the eigensolver does not converge.
    """
    return run_one(matrix_steps(hessian, gradient, threshold))


def matrix_steps(
    hessian: Tensor, gradient: Tensor, threshold: float, known: ClosedForms | None = None, solve: Solver | None = None
) -> Steps[Row]:
    """The steps of ``matrix_row``.

    Args:
        hessian: `[D, D]` fp64, symmetric; overwritten.
        gradient: `[D]` in the same coordinates.
        threshold: of the stable rank.
        known: checks of the assembly, if there are any.
        solve: from the Hessian, which it may overwrite, divided by a scale, and that scale; ``exact_solution`` if None.

    Returns:
        Steps to a row.
    """
    scale, row = magnitude(hessian), missing_row("exact")
    if not math.isfinite(scale + magnitude(gradient)):
        return row
    hessian.div_(scale)  # squares of a confident network's curvature must not vanish
    gradient_norm = norm(gradient)
    direction = gradient / gradient_norm  # NaN if zero
    frobenius = norm(hessian)
    zero = float(frobenius) == 0.0  # the largest entry is at least 1 otherwise
    product = hessian @ direction
    product_norm, quadratic = norm(product), direction @ product
    trace = hessian.trace() if known is None else known.trace / scale
    solution = yield from exact_solution(hessian, threshold) if solve is None or zero else solve(hessian, scale)
    eigenvalues, nuclear = solution.eigenvalues, solution.certificate.nuclear
    total = eigenvalues.sum() + solution.remaining_trace
    squares = eigenvalues.square().sum() + solution.remaining_square
    row.update(
        **eigenvalue_columns(eigenvalues, scale, solution.certificate),
        trace=total * scale,
        frobenius_norm=frobenius * scale,
        overlap=quadratic / product_norm,
        gradient_norm=gradient_norm,
        dimension=len(hessian),
        zero=zero,
        finite=True,
        trace_error=(total - trace).abs() / (1.0 if zero else nuclear),
        frobenius_error=(squares - frobenius.square()).abs() / (1.0 if zero else frobenius.square()),
        method=solution.method,
    )
    if known is not None:
        error = max(abs(product_norm - known.product_norm / scale), abs(quadratic - known.quadratic / scale))
        row["assembly_error"] = error / (1.0 if zero else frobenius)
    return row


def eigenvalue_columns(eigenvalues: Tensor, scale: float, certificate: Certificate) -> Row:
    """The fields that eigenvalues and what they certify give.

    Args:
        eigenvalues: `[k]`, ascending.
        scale: the Hessian was divided by.
        certificate: of the Hessian so divided.

    Returns:
        A part of a row.
    """
    sharpness, nuclear = eigenvalues.abs().amax(), certificate.nuclear
    negative = eigenvalues < -len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * sharpness
    return {
        "srank": int(certificate.estimate),
        "srank_lo": int(certificate.lo),
        "srank_hi": int(certificate.hi),
        "sharpness": sharpness * scale,
        "largest": eigenvalues[-1] * scale,
        "smallest": eigenvalues[0] * scale,
        "nuclear_norm": nuclear * scale,
        "negative_mass": -eigenvalues.clamp(max=0).sum() / nuclear if nuclear > 0 else 0.0,
        "negative_count": int(negative.sum()),
        "depth": len(eigenvalues),
        "eigenvalues": (eigenvalues * scale).cpu(),
    }


def gather_rows(rows: Sequence[Row], block_size: int, threshold: float) -> Curvature:
    """Stacks the rows of members.

    Args:
        rows: `M` rows.
        block_size: parameters of the block.
        threshold: of the stable rank.

    Returns:
        The curvature of all members.
    """
    columns: dict[str, Any] = {}
    rows = _on_cpu(rows)
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in ("method", "eigenvalues"):
            columns[name] = tuple(values)
        else:
            kind = torch.int64 if name in INTEGERS else torch.bool if name in FLAGS else torch.float64
            columns[name] = torch.tensor([float(v) if kind == torch.float64 else v for v in values], dtype=kind)
    return Curvature(**columns, block_size=block_size, threshold=threshold)


def _on_cpu(rows: Sequence[Row]) -> list[Row]:
    """Rows whose scalars are on the CPU: a GPU is asked for all of them at once."""
    places = [(i, name) for i, row in enumerate(rows) for name, value in row.items() if _is_elsewhere(value)]
    if not places:
        return list(rows)
    values = torch.stack([rows[i][name].double() for i, name in places]).tolist()  # integers below 2^53 stay whole
    moved = [dict(row) for row in rows]
    for (i, name), value in zip(places, values):
        moved[i][name] = value
    return moved


def _is_elsewhere(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 0 and value.device.type != "cpu"


def magnitude(values: Tensor) -> float:
    """The power of two at or below the largest absolute value, to scale by without touching digits.

    Args:
        values: any shape.

    Returns:
        At least 2^-1000, so that its reciprocal is finite; 1 for zeros; infinity or NaN if a value is.
    """
    if values.numel() == 0:
        return 1.0
    low, high = torch.stack(values.aminmax()).tolist()  # several times faster than a norm; NaN is passed on
    largest = max(-low, high) if low == low else low
    if largest == 0.0 or not math.isfinite(largest):
        return 1.0 if largest == 0.0 else largest
    return max(2.0 ** (math.frexp(largest)[1] - 1), 2.0**-1000)


def norm(values: Tensor) -> Tensor:
    """Euclidean norm that neither overflows nor vanishes.

    Args:
        values: `[..., D]`.

    Returns:
        A scalar tensor.
    """
    result = torch.linalg.vector_norm(torch.linalg.vector_norm(values, dim=-1))  # in two steps: shorter sums
    if 1e-140 < float(result) < 1e140:
        return result
    scale = magnitude(values)
    return torch.linalg.vector_norm(values / scale) * scale
