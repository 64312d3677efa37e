"""The curvature of every member of an ensemble, from its tail."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import Condition

import torch
from torch import Tensor

from fastplast.curvature.batches import STEP, Steps, run_one, run_together
from fastplast.curvature.compressed import compressed_dimension, compressed_hessian, is_compressible
from fastplast.curvature.coordinates import Coordinates, coordinates
from fastplast.curvature.hessian import CHUNK_BYTES, add_residual, gauss_newton, gradient, residual_part
from fastplast.curvature.routes import METHODS, Plan, residual_row
from fastplast.curvature.spectrum import ClosedForms, Curvature, Row, gather_rows, matrix_steps, missing_row, norm
from fastplast.curvature.srank import stable_rank
from fastplast.curvature.tail import Tail, tail_gradient, tail_hvp, tail_trace
from fastplast.machine.out_of_memory import release_and_warn
from fastplast.machine.threads import one_thread_each

MEMORY_LIMIT = 2**32

_NO_CONVERGENCE = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]


def measure(
    tail: Tail,
    *,
    method: str = "exact",
    threshold: float = 0.99,
    memory_limit: int = MEMORY_LIMIT,
    hint: Sequence[int] | Tensor | None = None,
) -> Curvature:
    """Stable rank and other measures of the exact Hessian of every member's last two layers.

    The Hessian is that of the mean cross-entropy in weights and biases of both layers (arXiv 2312.00246, section 4). On
    a CPU each member is worked on by one thread, ``torch.get_num_threads()`` members at a time, so that its results are
    the same bits alone or in any company. On a GPU members advance side by side, and eigenvalue problems of nearly the
    same size are one batch.

    Args:
        tail: of `M` members.
        method: ``exact`` computes all eigenvalues. ``truncated`` solves the leading coordinates of each unit,
            ``lanczos`` a block Krylov space, each with certified bounds; both end in ``exact`` where the bounds do not
            close to 1 or 1 % of the stable rank at a lower cost. ``auto`` tries what is cheapest first, the residual
            part alone included (``residual``).
        threshold: of the stable rank.
        memory_limit: bytes that the matrices of all members being worked on may take together.
        hint: `[M]`, stable ranks expected, for example the last ones; negative where there is none. They decide what is
            tried, never what is certified.

    Returns:
        The curvature of all members. A member with weights or inputs that are not finite gets missing values.

    Raises:
        ValueError: if the method is unknown, the hint has a wrong length, or one Hessian exceeds the memory limit.
    """
    options = {"method": method, "threshold": threshold, "memory_limit": memory_limit, "hint": hint}
    return measure_labels(tail, [tail.labels], **options)[0]


def measure_labels(
    tail: Tail,
    labels: Sequence[Tensor],
    *,
    method: str = "exact",
    threshold: float = 0.99,
    memory_limit: int = MEMORY_LIMIT,
    hint: Sequence[int] | Tensor | None = None,
) -> tuple[Curvature, ...]:
    """Measures the same networks on the same inputs under several labellings.

    The Gauss-Newton part does not depend on the labels and is assembled once: the end of a task and the start of the
    next, after its labels were shuffled, share it.

    Args:
        tail: of `M` members; its own labels are not used.
        labels: one `[M, N]` tensor for each labelling.
        method: as in ``measure``.
        threshold: of the stable rank.
        memory_limit: bytes that the matrices of all members being worked on may take together.
        hint: as in ``measure``, for all labellings.

    Returns:
        One curvature for each labelling.

    Raises:
        ValueError: if the method is unknown, the hint has a wrong length, or one Hessian exceeds the memory limit.
    """
    if method not in METHODS:
        raise ValueError(f"method is unknown: got {method!r}. Choose from {', '.join(METHODS)}.")
    hints = [-1] * tail.num_members if hint is None else [int(value) for value in hint]
    if len(hints) != tail.num_members:
        raise ValueError(
            f"hint must have one value for each of {tail.num_members} members: got {len(hints)}. "
            f"Use -1 where there is none."
        )
    relabelled = [tail.relabel(one) for one in labels]

    def member(index: int) -> _Member:
        tails = [one.member(index) for one in relabelled]
        return _Member(tails, _coordinates_or_none(tails[0]), Plan(method, threshold, hints[index]))

    run = _member_by_member if tail.inputs.device.type == "cpu" else _wave_by_wave
    rows = run(member, tail.num_members, memory_limit)
    return tuple(gather_rows(column, tail.block_size, threshold) for column in zip(*rows))


@dataclass(frozen=True)
class _Member:
    """One member, with a tail for each labelling; coordinates are None where it cannot be measured."""

    tails: list[Tail]
    coords: Coordinates | None
    plan: Plan

    def steps(self) -> Steps[list[Row]]:
        """To its rows, one for each labelling."""
        if self.coords is not None:
            try:
                return (yield from _rows(self.tails, self.coords, self.plan))
            except _NO_CONVERGENCE:  # a missing value, not the end of an experiment
                pass
        return [missing_row("exact") for _ in self.tails]


def _member_by_member(member: Callable[[int], _Member], members: int, memory_limit: int) -> list[list[Row]]:
    """The rows of every member, each on a thread of its own: for a CPU."""
    reserve = _budget(memory_limit)

    @torch.no_grad()
    def work(index: int) -> list[Row]:
        begun = time.perf_counter()
        one = member(index)
        with reserve(*_bytes_needed(one)):
            return _with_seconds(run_one(one.steps()), begun)

    return one_thread_each(work, members, torch.device("cpu"))


@torch.no_grad()
def _wave_by_wave(member: Callable[[int], _Member], members: int, memory_limit: int) -> list[list[Row]]:
    """The rows of every member, of as many side by side as the memory limit allows: for a GPU."""
    rows: list[list[Row]] = []
    wave: list[_Member] = []
    used, begun = 0, time.perf_counter()
    for index in range(members):
        one = member(index)
        needed, dimension = _bytes_needed(one)
        needed += 8 * (dimension + STEP) ** 2  # its place in a batch
        _check_limit(needed, dimension, memory_limit)
        if wave and used + needed > memory_limit:
            rows += [_with_seconds(found, begun, len(wave)) for found in _measure_together(wave)]
            wave, used, begun = [], 0, time.perf_counter()
        wave.append(one)
        used += needed
    return rows + [_with_seconds(found, begun, len(wave)) for found in _measure_together(wave)]


def _measure_together(wave: list[_Member]) -> list[list[Row]]:
    # The rows of some members side by side; half by half where memory does not suffice for all.
    try:
        return run_together([one.steps() for one in wave])
    except torch.OutOfMemoryError:
        if len(wave) == 1:
            raise
    # Here, where the frames that held memory are gone.
    release_and_warn(f"the curvature of {len(wave):,} members at once: {-(-len(wave) // 2):,} are measured at a time")
    middle = -(-len(wave) // 2)
    return _measure_together(wave[:middle]) + _measure_together(wave[middle:])


def _with_seconds(rows: list[Row], begun: float, shared: int = 1) -> list[Row]:
    """Rows of one member with its part of the time since the clock stood at ``begun``."""
    seconds = (time.perf_counter() - begun) / len(rows) / shared
    return [{**row, "seconds": seconds} for row in rows]


def _coordinates_or_none(tail: Tail) -> Coordinates | None:
    try:
        return coordinates(tail) if _is_finite(tail) else None
    except _NO_CONVERGENCE:
        return None


def _rows(tails: list[Tail], coords: Coordinates, plan: Plan) -> Steps[list[Row]]:
    shared: tuple[Tensor, Tensor] | None = None  # G and its norm
    rows = []
    for tail in tails:
        labels = tail.labels[0]
        residual = residual_part(coords, labels)
        known, gauss_newton_trace = _closed_forms(tail)
        row = residual_row(tail, coords, residual, known, gauss_newton_trace, plan) if plan.method == "auto" else None
        if row is None and is_compressible(coords):
            hessian, loss_gradient, gauss_newton_norm = compressed_hessian(coords, labels, residual)
            solve = plan.solver(residual, None)
            row = yield from matrix_steps(hessian, loss_gradient, plan.threshold, known, solve)
            row["residual_ratio"] = norm(residual.eigenvalues) / gauss_newton_norm
        elif row is None:
            if shared is None:
                matrix = gauss_newton(coords)
                shared = matrix, norm(matrix)
            hessian = add_residual(shared[0] if tail is tails[-1] else shared[0].clone(), coords, residual)
            loss_gradient, solve = gradient(coords, labels, residual), plan.solver(residual, coords)
            row = yield from matrix_steps(hessian, loss_gradient, plan.threshold, known, solve)
            row["residual_ratio"] = norm(residual.eigenvalues) / shared[1]
        if row["finite"]:
            values = residual.eigenvalues
            nuclear = float(values.abs().sum())
            row["residual_share"] = nuclear / (nuclear + gauss_newton_trace) if not row["zero"] else math.nan
            row["residual_srank"] = int(stable_rank(values, plan.threshold))
        else:
            row["residual_ratio"] = math.nan
        rows.append(row)
    return rows


def _closed_forms(tail: Tail) -> tuple[ClosedForms, float]:
    """Checks in closed form, and the trace of the Gauss-Newton part, which is its nuclear norm."""
    loss_gradient = tail_gradient(tail)
    size = norm(torch.cat([part.flatten() for part in loss_gradient]))
    direction = [part.unsqueeze(1) / size for part in loss_gradient]
    product = tail_hvp(tail, *direction)
    quadratic = sum(float((u * v).sum()) for u, v in zip(direction, product))
    gauss_newton_trace, residual_trace = (float(part) for part in tail_trace(tail))
    product_norm = float(norm(torch.cat([part.flatten() for part in product])))
    return ClosedForms(gauss_newton_trace + residual_trace, product_norm, quadratic), gauss_newton_trace


def _is_finite(tail: Tail) -> bool:
    state = tail.state
    weights = (tail.hidden_weight, tail.hidden_bias, tail.output_weight, tail.output_bias)
    tensors = (state.inputs, state.hidden, state.probability, *weights)
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _bytes_needed(member: _Member) -> tuple[int, int]:
    """Peak memory of a member's matrices, and the dimension of the Hessian."""
    coords, labellings = member.coords, len(member.tails)
    if coords is None:
        return 0, 0
    if not is_compressible(coords):
        matrices = 3 if labellings == 1 else 4  # G or H, a copy for the eigensolver, one more while G is put together
        return 8 * matrices * coords.dimension**2 + 4 * CHUNK_BYTES, coords.dimension
    classes, active, _, inputs, _ = coords.sizes
    factors = active * inputs * classes * (len(coords.inputs) + active)
    dimension = compressed_dimension(coords)
    return 8 * (3 * factors + 3 * dimension**2), dimension


def _check_limit(needed: int, dimension: int, limit: int) -> None:
    if needed > limit:
        raise ValueError(
            f"memory_limit is too small for a Hessian of dimension {dimension}: got {limit} bytes, needs {needed}. "
            f"Raise memory_limit."
        )


def _budget(limit: int) -> Callable[[int, int], AbstractContextManager[None]]:
    """Lets members in while their matrices fit into the limit together; the others wait."""
    free, change = [limit], Condition()

    @contextmanager
    def reserve(needed: int, dimension: int) -> Iterator[None]:
        _check_limit(needed, dimension, limit)
        with change:
            change.wait_for(lambda: free[0] >= needed)
            free[0] -= needed
        try:
            yield
        finally:
            with change:
                free[0] += needed
                change.notify_all()

    return reserve
