"""Eigenvalues of symmetric matrices in batches: the one door to CuPy, which may be missing.

On a GPU the batched solvers of PyTorch and of CuPy are other routines of cuSOLVER, and which is faster depends on the
shape: the first batch of a shape is solved by both, and the faster one that agrees with PyTorch solves the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

_AGREE = 32  # times D eps |largest eigenvalue|: how far two backward stable solvers may differ
_WARM = 32  # dimension of what is solved before the clock starts
_CUPY_FAILURES = (ImportError, AttributeError, MemoryError, RuntimeError, ValueError)  # LinAlgError is a ValueError

_chosen: dict[tuple[int, int], str] = {}  # (members, dimension) to the name of a solver, in this process


def eigenvalues(matrices: Tensor) -> Tensor:
    """All eigenvalues of symmetric matrices.

    Args:
        matrices: `[A, D, D]`; on a GPU of any dimension, zeros included.

    Returns:
        `[A, D]`, ascending.

    Raises:
        LinAlgError: if the eigensolver does not converge.
    """
    return torch.linalg.eigvalsh(matrices) if matrices.device.type == "cpu" else faster_eigenvalues(matrices)


def faster_eigenvalues(matrices: Tensor) -> Tensor:
    """`eigenvalues` by PyTorch or CuPy, whichever was faster at the first batch of this shape.

    Args:
        matrices: `[A, D, D]`.

    Returns:
        `[A, D]`, ascending.
    """
    shape = (matrices.shape[0], matrices.shape[1])
    if shape not in _chosen:
        _chosen[shape], values = _compare(matrices)
        return values
    if _chosen[shape] == "cupy":
        try:
            return _by_cupy(matrices)
        except _CUPY_FAILURES:  # memory, convergence: what one solver lacks the other may have
            pass
    return torch.linalg.eigvalsh(matrices)


def _compare(matrices: Tensor) -> tuple[str, Tensor]:
    """The name of the solver to use, and PyTorch's eigenvalues."""
    seconds, values = _timed(torch.linalg.eigvalsh, matrices)
    try:
        cupy_seconds, found = _timed(_by_cupy, matrices)
    except _CUPY_FAILURES:
        return "torch", values
    size = values.abs().amax(1, keepdim=True)
    agrees = (found - values).abs() <= _AGREE * values.shape[1] * torch.finfo(values.dtype).eps * size
    return ("cupy" if cupy_seconds < seconds and bool(agrees.all()) else "torch"), values


def _timed(solve: Callable[[Tensor], Tensor], matrices: Tensor) -> tuple[float, Tensor]:
    solve(matrices[:, :_WARM, :_WARM].contiguous())  # libraries start, handles are made
    _wait(matrices)
    begun = time.perf_counter()
    values = solve(matrices)
    _wait(matrices)
    return time.perf_counter() - begun, values


def _wait(matrices: Tensor) -> None:
    if matrices.is_cuda:
        torch.cuda.synchronize(matrices.device)


def _by_cupy(matrices: Tensor) -> Tensor:
    """The same memory seen by CuPy, and the eigenvalues' memory seen by PyTorch."""
    import cupy
    import cupyx

    with cupyx.errstate(linalg="raise"):
        return torch.from_dlpack(cupy.linalg.eigvalsh(cupy.from_dlpack(matrices.contiguous())))
