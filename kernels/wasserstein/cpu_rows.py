"""Targets, penalties and gradients of many rows of float32 weights on the cores of a CPU."""

from __future__ import annotations

import numpy as np
import torch
from fastplast_kernels import workers
from fastplast_kernels.compilation import called, compiled
from fastplast_kernels.wasserstein.cpu import BLOCK, gather_words, new_scratch, rank_target, scratch_size, solve_row
from fastplast_kernels.workers import WORTH_A_THREAD, take
from torch import Tensor

SUMS = 256  # float64 sums of a row's squares, in one order on every CPU and without waiting for each other

_spare: list[np.ndarray] = []  # scratch between calls: fresh memory costs as much as the ranks themselves


@called
def _gradient(w, q, factor, gradient, sums):
    """Writes the gradient factor * (w - q), rounded once, and adds (w - q)^2 to the sums, which element k to sum k.

    Of a whole block, sums wait in registers. The last loop goes through slices from 0: half the time of indices
    `begin + i`, which might be negative for all the compiler knows.
    """
    if w.size == BLOCK:
        for i in range(SUMS):
            total = sums[i]
            for k in range(BLOCK // SUMS):  # unrolled, as its length is known
                away = np.float64(w[k * SUMS + i]) - np.float64(q[k * SUMS + i])
                gradient[k * SUMS + i] = np.float32(factor * away)
                total += away * away
            sums[i] = total
        return
    for begin in range(0, w.size, SUMS):
        end = min(begin + SUMS, w.size)
        here, there, out = w[begin:end], q[begin:end], gradient[begin:end]
        for i in range(here.size):
            away = np.float64(here[i]) - np.float64(there[i])
            out[i] = np.float32(factor * away)
            sums[i] += away * away


@called
def _penalty_row(w, sorted_init, factor, gradient, scratch):
    """Writes 2 factor (w - q) of one row and returns factor sum (w - q)^2, or writes and returns NaN."""
    rest = scratch_size(w.size)
    sums, q = scratch[rest : rest + 2 * SUMS].view(np.float64), scratch[rest + 2 * SUMS : rest + 2 * SUMS + BLOCK]
    ok, target, where = solve_row(w, sorted_init, gradient.view(np.uint32), scratch)
    if not ok:
        for i in range(w.size):
            gradient[i] = np.nan
        return np.nan
    for i in range(SUMS):
        sums[i] = 0.0
    for begin in range(0, w.size, BLOCK):
        part = w[begin : begin + BLOCK]
        gather_words(target, where[begin : begin + part.size], q.view(np.uint32))
        _gradient(part, q.view(np.float32), 2.0 * factor, gradient[begin : begin + part.size], sums)
    total = 0.0
    for i in range(SUMS):
        total += sums[i]
    return factor * total


@compiled
def _penalty_rows(w, sorted_init, factor, penalty, gradient, counter, scratch):
    row = take(counter)
    while row < w.shape[0]:
        penalty[row] = _penalty_row(w[row], sorted_init[row % sorted_init.shape[0]], factor, gradient[row], scratch)
        row = take(counter)


@compiled
def _target_rows(w, sorted_init, q, counter, scratch):
    row = take(counter)
    while row < w.shape[0]:
        if not rank_target(w[row], sorted_init[row % sorted_init.shape[0]], q[row], scratch):
            for i in range(w.shape[1]):
                q[row, i] = np.nan
        row = take(counter)


def target(w: Tensor, sorted_init: Tensor, threads: int | None = None) -> Tensor:
    """`reference.target`, to the bit.

    Args:
        w: `[..., n]` float32.
        sorted_init: `[..., n]` float32; broadcasts against `w`.
        threads: at most this many; None for PyTorch's number. The bits do not depend on it.

    Returns:
        q `[..., n]`.
    """
    rows, initial = _rows(w, sorted_init)
    q = torch.empty(w.shape)
    arguments = rows, initial, q.view(rows.shape).numpy()
    _share_out(lambda counter, scratch: _target_rows(*arguments, counter, scratch), *rows.shape, threads)
    return q


def penalty_and_gradient(
    w: Tensor, sorted_init: Tensor, factor: float, threads: int | None = None, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`reference.penalty_and_gradient` with every number rounded once, from float64.

    Args:
        w: `[..., n]` float32.
        sorted_init: `[..., n]` float32; broadcasts against `w`.
        factor: c.
        threads: at most this many; None for PyTorch's number. The bits do not depend on it.
        out: where the gradients go, contiguous; None for new memory, whose first touch costs time.

    Returns:
        Penalties `[...]` and gradients `[..., n]`, float32.
    """
    rows, initial = _rows(w, sorted_init)
    penalty, gradient = torch.empty(w.shape[:-1]), torch.empty(w.shape) if out is None else out
    arguments = rows, initial, float(factor), penalty.view(-1).numpy(), gradient.view(rows.shape).numpy()
    _share_out(lambda counter, scratch: _penalty_rows(*arguments, counter, scratch), *rows.shape, threads)
    return penalty, gradient


def _rows(w: Tensor, sorted_init: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[R, n]`, and initial weights `[R, n]` or `[1, n]`."""
    n = w.shape[-1]
    initial = sorted_init if sorted_init.numel() == n else sorted_init.expand(w.shape)
    return tuple(x.detach().contiguous().view(-1, n).numpy() for x in (w, initial))  # pyright: ignore


def _share_out(work, rows: int, n: int, threads: int | None) -> None:
    """Calls work(counter, scratch) in some threads."""
    threads = min(threads or torch.get_num_threads(), rows, 1 + rows * n // WORTH_A_THREAD)

    def one(counter: np.ndarray, thread: int) -> None:
        more = 2 * SUMS + BLOCK
        try:
            scratch = _spare.pop()
        except IndexError:
            scratch = np.empty(0, np.int32)
        if scratch.size < scratch_size(n) + more:
            scratch = new_scratch(n, more)
        work(counter, scratch)
        _spare.append(scratch)

    workers.run(one, rows, threads)
