"""The Hessian of any differentiable loss in any block of parameters, from Hessian-vector products."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from threading import Lock

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastplast.curvature.exact import MEMORY_LIMIT
from fastplast.curvature.spectrum import Curvature, Row, gather_rows, matrix_row, missing_row, norm
from fastplast.machine.threads import one_thread_each

Loss = Callable[[Tensor], Tensor]

MODES = ("auto", "forward", "reverse")

_DIFFERENTIATING = Lock()  # torch has one level of forward mode in a process, and losses may share a module


def measure_block(
    losses: Sequence[Loss],
    blocks: Tensor,
    *,
    threshold: float = 0.99,
    mode: str = "auto",
    chunk: int = 64,
    memory_limit: int = MEMORY_LIMIT,
) -> Curvature:
    """Stable rank and other measures of the exact Hessian of any block of parameters.

    For the last two dense layers of a network ``measure`` gives the same numbers many times faster. On a CPU each
    member has one thread of arithmetic: one is differentiated while eigenvalues of others are found.

    Args:
        losses: `M` pure functions of a member's block `[D]`, as ``hessian_block`` takes them.
        blocks: `[M, D]`, where to measure; fp64 for trustworthy small eigenvalues.
        threshold: of the stable rank.
        mode: as in ``hessian_block``.
        chunk: directions in flight at a time.
        memory_limit: bytes that the matrices of all members being worked on may take together.

    Returns:
        The curvature of all members. One whose loss is not finite gets missing values.

    Raises:
        ValueError: if the numbers of losses and blocks differ, or a loss draws random numbers.
    """
    if blocks.dim() != 2 or len(losses) != len(blocks):
        shape = tuple(blocks.shape)
        raise ValueError(f"blocks must be [M, D] with M = {len(losses)} losses: got shape {shape}. Stack one row each.")
    needed = _check_size(blocks.shape[1], memory_limit)

    def work(index: int) -> Row:
        return _measure_one(losses[index], blocks[index], threshold, mode, chunk)

    rows = one_thread_each(work, len(blocks), blocks.device, most=memory_limit // needed)
    return gather_rows(rows, blocks.shape[1], threshold)


def hessian_block(
    loss: Loss, block: Tensor, *, mode: str = "auto", chunk: int = 64, memory_limit: int = MEMORY_LIMIT
) -> Tensor:
    """The exact Hessian of a loss, one column for each parameter.

    Args:
        loss: pure function of the flattened block `[D]` that returns a scalar, for example from ``block_loss``. It must
            not draw random numbers.
        block: `[D]`, where to differentiate. Its dtype is that of the products.
        mode: ``forward`` differentiates the gradient in forward mode, many directions at a time; ``reverse`` runs a
            second backward pass for each direction and takes any operation that can be differentiated twice; ``auto``
            is the first with the second in reserve.
        chunk: directions in flight at a time in forward mode; memory grows with it.
        memory_limit: bytes that the matrices may take.

    Returns:
        `[D, D]` fp64, symmetric.

    Raises:
        ValueError: if the mode is unknown, the loss is not a scalar or not the same at every call, or the block exceeds
            the memory limit.
    """
    _check_size(block.numel(), memory_limit)
    with _DIFFERENTIATING:
        columns, _ = _columns(loss, block, mode, chunk)
    return (columns + columns.T) / 2


def block_loss(module: nn.Module, names: Sequence[str], inputs: Tensor, labels: Tensor) -> tuple[Loss, Tensor]:
    """The mean cross-entropy of a module as a function of some of its parameters, in fp64.

    Args:
        module: from `[N, ...]` to `[N, C]`; its parameters are copied, its training mode is kept.
        names: of the parameters in the block, as in ``named_parameters``, for example of the last two layers.
        inputs: `[N, ...]`.
        labels: `[N]`.

    Returns:
        The loss and the block `[D]` at the module's parameters, in the order of the names.

    Raises:
        ValueError: if a name is not a parameter of the module or is there twice, or there are no examples.
    """
    parameters = {name: value.detach().double() for name, value in module.named_parameters()}
    for name in names:
        if name not in parameters:
            raise ValueError(f"names must be parameters of the module: got {name!r}. Known: {', '.join(parameters)}.")
    if twice := [name for name in dict.fromkeys(names) if list(names).count(name) > 1]:
        raise ValueError(f"names must not repeat a parameter: got {', '.join(twice)} more than once.")
    if len(inputs) == 0:
        raise ValueError(f"inputs must be [N, ...] with N > 0: got shape {tuple(inputs.shape)}.")
    buffers = {k: v.double() if v.is_floating_point() else v for k, v in module.named_buffers()}
    chosen = [parameters[name] for name in names]
    data = inputs.double() if inputs.is_floating_point() else inputs

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([value.numel() for value in chosen])
        block = {name: piece.view(value.shape) for name, piece, value in zip(names, pieces, chosen)}
        return nn.functional.cross_entropy(functional_call(module, {**parameters, **buffers, **block}, data), labels)

    return loss, torch.cat([value.flatten() for value in chosen])


def _measure_one(loss: Loss, block: Tensor, threshold: float, mode: str, chunk: int) -> Row:
    start = time.perf_counter()
    row = missing_row("exact")
    with _DIFFERENTIATING:
        columns, gradient = _columns(loss, block, mode, chunk)
    size = norm(columns)
    if size.isfinite():
        asymmetry = norm(columns - columns.T) / (size if size > 0 else 1.0)
        try:
            row = matrix_row((columns + columns.T) / 2, gradient, threshold)
            row["assembly_error"] = asymmetry
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            pass  # no convergence is a missing value, not the end of an experiment
    return {**row, "seconds": time.perf_counter() - start}


def _columns(loss: Loss, block: Tensor, mode: str, chunk: int) -> tuple[Tensor, Tensor]:
    # Columns of the Hessian [D, D], not yet symmetric, and the gradient [D], both fp64.
    if mode not in MODES:
        raise ValueError(f"mode is unknown: got {mode!r}. Choose from {', '.join(MODES)}.")
    block = block.detach()
    value = loss(block)
    if value.shape != ():
        raise ValueError(f"loss must return a scalar: got shape {tuple(value.shape)}. Take the mean over examples.")
    if not torch.allclose(loss(block), value, rtol=0.0, atol=0.0, equal_nan=True):
        raise ValueError(
            "loss must be the same at every call: got one that draws random numbers. Measure a module in evaluation, "
            "by module.eval()."
        )
    ways = [("forward", _forward_columns), ("reverse", _reverse_columns)]
    chosen = [compute for name, compute in ways if mode in (name, "auto")]
    # The usual kernels of attention cannot be differentiated twice; the plain one can, and is slower.
    attempts = [(compute, plain) for compute in chosen for plain in (False, True)]
    for number, (compute, plain) in enumerate(attempts, 1):
        try:
            with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
                return compute(loss, block, chunk)
        except (NotImplementedError, RuntimeError) as error:  # how PyTorch says that an operation lacks a derivative
            if number == len(attempts) or isinstance(error, torch.OutOfMemoryError):
                raise
    raise AssertionError(mode)


def _forward_columns(loss: Loss, block: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    gradient = grad(loss)

    def product(direction: Tensor) -> Tensor:
        return jvp(gradient, (block,), (direction,))[1]

    directions = torch.eye(len(block), dtype=block.dtype, device=block.device)
    columns = torch.cat([vmap(product)(part) for part in directions.split(chunk)])
    return columns.detach().double(), gradient(block).detach().double()


def _reverse_columns(loss: Loss, block: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        point = block.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True, materialize_grads=True)
    columns = torch.zeros(len(block), len(block), dtype=torch.float64, device=block.device)
    if gradient.requires_grad:
        for index, direction in enumerate(torch.eye(len(block), dtype=block.dtype, device=block.device)):
            (column,) = torch.autograd.grad(
                gradient, point, direction, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            columns[index] = column
    return columns, gradient.detach().double()


def _check_size(parameters: int, memory_limit: int) -> int:
    """Bytes that the matrices of one member take.

    Raises:
        ValueError: if there is no parameter, or they exceed the limit.
    """
    if parameters == 0:
        raise ValueError("block must hold at least one parameter: got 0.")
    needed = 5 * 8 * parameters**2  # columns, their symmetric part, a difference, the eigensolver's copy, directions
    if needed > memory_limit:
        raise ValueError(
            f"memory_limit is too small for a block of {parameters} parameters: got {memory_limit} bytes, "
            f"needs {needed}. Raise memory_limit or choose fewer parameters."
        )
    return needed
