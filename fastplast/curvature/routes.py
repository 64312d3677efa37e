"""Which way to a stable rank: by predicted cost, certified or exact."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastplast.curvature.batches import Krylov, Steps
from fastplast.curvature.certificate import Certificate
from fastplast.curvature.coordinates import Coordinates
from fastplast.curvature.hessian import Residual, scaled
from fastplast.curvature.lanczos import BLOCK
from fastplast.curvature.spectrum import (
    ClosedForms,
    Row,
    Solution,
    Solver,
    eigenvalue_columns,
    exact_solution,
    magnitude,
    missing_row,
)
from fastplast.curvature.tail import Tail, tail_gradient
from fastplast.curvature.truncated import residual_certificate, truncated_certificate

METHODS = ("exact", "truncated", "lanczos", "auto")

# Measured on one core in fp64, in seconds: eigenvalues, of D^3; thin and thick products, of a floating point operation.
_EIGENVALUES = 8e-11
_THIN, _THICK = 1 / 12e9, 1 / 30e9
_DEPTH, _DEPTH_PER_RANK = 250, 5.0  # at which Lanczos has been seen to close, on trained perceptrons: a + b srank
_CHECKS = 2  # at the certificate, each of some products of the basis and two decompositions
_PAYS = 0.8  # of the predicted time of all eigenvalues: Lanczos has been seen to take somewhat more than predicted
_SMALL = 1200  # a Hessian so small is solved before a shortcut has paid for itself


def _exact_seconds(dimension: int) -> float:
    """Predicted time of all eigenvalues on one core, right to a factor of two; only ratios are used."""
    return _EIGENVALUES * dimension**3


def _lanczos_seconds(dimension: int, depth: float) -> float:
    """Predicted time of block Lanczos on one core, with a basis of a depth."""
    products = _THIN * 2 * dimension**2 * depth + _THICK * 6 * dimension * depth**2
    return products + _CHECKS * (_THICK * 6 * dimension * depth**2 + 2 * _exact_seconds(int(depth)))


@dataclass(frozen=True)
class Plan:
    """How one member is to be measured.

    Attributes:
        method: one of ``METHODS``.
        threshold: of the stable rank.
        hint: the stable rank expected; negative if unknown.
    """

    method: str
    threshold: float
    hint: int = -1

    def solver(self, residual: Residual, coords: Coordinates | None) -> Solver:
        """The way to the eigenvalues of a Hessian.

        Args:
            residual: of the member.
            coords: in which the Hessian is given; None for a compressed one, whose coordinates mix the units.

        Returns:
            The solver.
        """

        def solve(hessian: Tensor, scale: float) -> Steps[Solution]:
            part = scaled(residual, scale)
            solution = None
            if self._tries_lanczos(len(hessian)):
                solution = yield from self._lanczos(hessian, part)
            if solution is None and coords is not None and self._tries_truncation(len(hessian)):
                solution = yield from self._truncated(hessian, coords, part)
            return solution or (yield from exact_solution(hessian, self.threshold))

        return solve

    def _tries_lanczos(self, dimension: int) -> bool:
        if self.method != "auto":
            return self.method == "lanczos"
        if self.hint < 0 or dimension < _SMALL:
            return False
        return _lanczos_seconds(dimension, self._closing_depth()) < _PAYS * _exact_seconds(dimension)

    def _closing_depth(self) -> int:
        return int(_DEPTH + _DEPTH_PER_RANK * max(self.hint, 0)) // BLOCK * BLOCK

    def _tries_truncation(self, dimension: int) -> bool:
        return self.method == "truncated" or (self.method == "auto" and dimension >= _SMALL)

    def _lanczos(self, hessian: Tensor, residual: Residual) -> Steps[Solution | None]:
        dimension = len(hessian)
        max_depth = dimension
        while max_depth > 4 * BLOCK and _lanczos_seconds(dimension, max_depth) > _exact_seconds(dimension):
            max_depth -= BLOCK
        first = 0.7 * self._closing_depth() if self.hint >= 0 else 4 * BLOCK  # some members close a third earlier
        depth = int(first) // BLOCK * BLOCK
        found = yield Krylov(hessian, residual.negatives, self.threshold, depth, max_depth)
        return _solution("lanczos", found.certificate, found.ritz, hessian)

    def _truncated(self, hessian: Tensor, coords: Coordinates, residual: Residual) -> Steps[Solution | None]:
        if coords.sizes[1] == 0:
            return None
        found = yield from truncated_certificate(hessian, coords, residual, self.threshold)
        return found and _solution("truncated", *found, hessian)


def residual_row(
    tail: Tail, coords: Coordinates, residual: Residual, known: ClosedForms, gauss_newton_trace: float, plan: Plan
) -> Row | None:
    """Measures a Hessian by its residual part alone, without assembling it, if that certifies the stable rank.

    Args:
        tail: of one member.
        coords: its coordinates.
        residual: of the member.
        known: of the Hessian, in closed form.
        gauss_newton_trace: tr G.
        plan: of the member.

    Returns:
        A row with the method ``residual``; None if the bounds are too wide.
    """
    values = residual.eigenvalues
    scale = magnitude(values)
    if not math.isfinite(scale + known.trace) or not gauss_newton_trace < 0.01 * float(values.abs().sum()):
        return None
    found, values = residual_certificate(
        scaled(residual, scale), gauss_newton_trace / scale, coords.dimension, plan.threshold
    )
    if not bool(found.closed):
        return None
    row, values = missing_row("residual"), values.sort().values
    gradient_norm = torch.linalg.vector_norm(torch.cat([part.flatten() for part in tail_gradient(tail)]))
    row.update(
        **eigenvalue_columns(values, scale, found),
        trace=known.trace,
        frobenius_norm=torch.linalg.vector_norm(values) * scale,
        overlap=known.quadratic / known.product_norm if known.product_norm > 0 else math.nan,
        gradient_norm=gradient_norm,
        dimension=coords.dimension,
        zero=False,
        finite=True,
        trace_error=abs(float(values.sum()) * scale + gauss_newton_trace - known.trace) / float(found.nuclear * scale),
    )
    return row


def _solution(method: str, certificate: Certificate, ritz: Tensor, hessian: Tensor) -> Solution | None:
    """The solution if the bounds have closed."""
    if not bool(certificate.closed):
        return None
    square = torch.linalg.vector_norm(hessian).square()
    return Solution(
        eigenvalues=ritz,
        certificate=certificate,
        remaining_trace=hessian.trace() - ritz.sum(),
        remaining_square=square - ritz.square().sum(),
        method=method,
    )
