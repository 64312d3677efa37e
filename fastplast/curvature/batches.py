"""Members measured alone or together: the same steps, whose eigenvalue problems are solved one by one or as batches.

A measurement is a generator that yields each problem it needs solved and is sent the solution. On a CPU a member's
steps run on a thread of their own. On a GPU those of many members advance side by side, and problems of the same size,
rounded up, are one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastplast.curvature.lanczos import KnownSpectrum, LanczosResult, block_lanczos

STEP = 64  # dimensions are rounded up to a multiple, so that members of nearly the same one meet

Result = TypeVar("Result")


@dataclass(frozen=True)
class Eigenvalues:
    """Asks for all eigenvalues of a symmetric matrix, `[D]`, ascending.

    Attributes:
        matrix: `[D, D]`.
    """

    matrix: Tensor


@dataclass(frozen=True)
class Krylov:
    """Asks for what ``block_lanczos`` finds.

    Attributes:
        hessian: `[D, D]`.
        negatives: as in ``lanczos.KnownSpectrum``.
        threshold: of the stable rank.
        depth: columns before the first check of the certificate.
        max_depth: columns at which the member is given up.
    """

    hessian: Tensor
    negatives: Tensor
    threshold: float
    depth: int
    max_depth: int


Problem = Eigenvalues | Krylov
Steps = Generator[Problem, Any, Result]


def run_one(steps: Steps[Result]) -> Result:
    """Runs the steps of one member.

    Args:
        steps: of the member.

    Returns:
        Their result.

    Raises:
        LinAlgError: if an eigensolver does not converge and the steps do not mind it.
    """
    solution = None
    try:
        while True:
            problem = _advance(steps, solution)
            size = len(problem.matrix if isinstance(problem, Eigenvalues) else problem.hessian)
            (solution,) = _solve_or_fail(_SOLVE[type(problem)], [problem], size)
    except StopIteration as end:
        return end.value


def run_together(members: Sequence[Steps[Result]]) -> list[Result]:
    """Runs the steps of many members side by side.

    Args:
        members: the steps of each.

    Returns:
        Their results, in order.

    Raises:
        LinAlgError: as in ``run_one``; the failure of one member is thrown into its own steps only.
    """
    results: dict[int, Result] = {}
    solutions: dict[int, Any] = dict.fromkeys(range(len(members)))
    while solutions:
        problems: dict[int, Problem] = {}
        for index, solution in solutions.items():
            try:
                problems[index] = _advance(members[index], solution)
            except StopIteration as end:
                results[index] = end.value
        solutions = _solve_all(problems)
    return [results[index] for index in range(len(members))]


def _advance(steps: Steps, solution: Any) -> Problem:
    """The next problem of some steps, which are sent a solution, or thrown the reason why there is none."""
    return steps.throw(solution) if isinstance(solution, Exception) else steps.send(solution)


def _solve_all(problems: dict[int, Problem]) -> dict[int, Any]:
    """The solution of every problem, or the exception that says why there is none."""
    batches: dict[tuple, list[int]] = {}
    for index, problem in problems.items():
        batches.setdefault(_batch_key(problem), []).append(index)
    solutions: dict[int, Any] = {}
    for (kind, size, *_), indices in batches.items():
        batch = [problems[index] for index in indices]
        solutions |= zip(indices, _solve_or_fail(_SOLVE[kind], batch, size))
    return solutions


def _batch_key(problem: Problem) -> tuple:
    """What problems of a batch have in common; their padded dimension second."""
    if isinstance(problem, Eigenvalues):
        return Eigenvalues, _padded(len(problem.matrix))
    return Krylov, _padded(len(problem.hessian)), problem.threshold, problem.depth, problem.max_depth


def _solve_or_fail(solve: Callable[[list, int], list], batch: list, size: int) -> list:
    failure = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]
    try:
        return solve(batch, size)
    except failure as error:
        if len(batch) == 1:
            return [error]
    return [solution for problem in batch for solution in _solve_or_fail(solve, [problem], size)]


def _all_eigenvalues(batch: list[Eigenvalues], size: int) -> list[Tensor]:
    values = torch.linalg.eigvalsh(_stacked([problem.matrix for problem in batch], size))
    return [_without_padding(row, len(problem.matrix)) for row, problem in zip(values, batch)]


def _lanczos(batch: list[Krylov], size: int) -> list[LanczosResult]:
    matrices = _stacked([problem.hessian for problem in batch], size)
    norm = torch.stack([torch.linalg.vector_norm(problem.hessian) for problem in batch])
    trace = torch.stack([problem.hessian.trace() for problem in batch])
    growing = [matrices]

    def product(members: Tensor, block: Tensor) -> Tensor:
        if len(members) < len(growing[0]):
            growing[0] = matrices[members]
        return growing[0] @ block

    known = KnownSpectrum(trace, norm, [problem.negatives for problem in batch])
    one = batch[0]
    found = block_lanczos(product, size, known, threshold=one.threshold, depth=one.depth, max_depth=one.max_depth)
    return [
        LanczosResult(member.certificate, _without_padding(member.ritz, len(problem.hessian)))
        for member, problem in zip(found, batch)
    ]


def _padded(dimension: int) -> int:
    return -(-dimension // STEP) * STEP


def _stacked(matrices: list[Tensor], size: int) -> Tensor:
    """`[A, size, size]`, filled up with zeros; one matrix that needs no filling is not copied."""
    if len(matrices) == 1 and len(matrices[0]) == size:
        return matrices[0].unsqueeze(0)
    stack = matrices[0].new_zeros(len(matrices), size, size)
    for row, matrix in zip(stack, matrices):
        row[: len(matrix), : len(matrix)] = matrix
    return stack


def _without_padding(values: Tensor, dimension: int) -> Tensor:
    """Without the zeros that filling up has added: the smallest in size, to rounding."""
    if len(values) <= dimension:
        return values
    kept = values.abs().argsort(descending=True, stable=True)[:dimension]
    return values[kept].sort().values


_SOLVE: dict[type, Callable[[list, int], list]] = {Eigenvalues: _all_eigenvalues, Krylov: _lanczos}
