"""The Wasserstein regulariser as a loss term: picks the kernel for a tensor, and differentiates."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

import torch
from fastplast_kernels.wasserstein import reference
from torch import Tensor


def sort_init(w: Tensor) -> Tensor:
    """The initial weights in ascending order, as `penalty` wants them.

    Args:
        w: initial weights of one matrix, of any shape with n values.

    Returns:
        `[n]`, detached from the graph.
    """
    return w.detach().flatten().sort().values


def penalty(w: Tensor, sorted_init: Tensor, reduction: str = "mean") -> Tensor:
    """Squared 2-Wasserstein distance between weights and their initial values, as a loss term.

    ``W2^2 = c * sum_i (w_(i) - Q0_i)^2``, Q0 the sorted initial weights, with gradient ``2 c (w - Q0[rank(w)])``
    (Lewandowski et al. 2023, arXiv 2312.00246, section 5). Works under autograd, twice if need be, and under
    `torch.func.grad`, `jvp` and `vmap`. For all weight matrices of a module::

        initial = {name: sort_init(w) for name, w in module.named_parameters() if w.ndim > 1}  # once
        ...
        pull = sum(penalty(module.get_parameter(name), q0) for name, q0 in initial.items())
        loss = loss + strength * pull

    Args:
        w: one weight tensor of any shape with n values, or a stack `[M, ...]` of them.
        sorted_init: what `sort_init` made of the initial weights: `[n]` for one tensor, `[M, n]` for a stack. A
            constant: no gradient flows to it.
        reduction: ``mean`` (c = 1/n, the paper's) or ``sum`` (c = 1).

    Returns:
        The penalty, a scalar, or `[M]` for a stack. NaN, and its gradient NaN throughout, for a tensor that holds a NaN
        or an infinity; the others of the stack are as without it.

    Raises:
        ValueError: if `reduction` is unknown, or shapes or devices do not fit together.
        TypeError: if a tensor does not hold floating-point numbers.
    """
    stacked = sorted_init.ndim == 2
    flat = w.flatten(1) if stacked and w.ndim > 1 else w.flatten()
    _check(w, flat, sorted_init)
    return _Penalty.apply(flat, sorted_init.detach(), reference.coefficient(reduction, flat.shape[-1]))[0]


def wasserstein_penalty(weights: Tensor, sorted_init: Tensor, reduction: str = "mean") -> tuple[Tensor, Tensor]:
    """Penalty and gradient of rows of weights in one pass, for a training loop without autograd.

    Args:
        weights: `[M, n]`.
        sorted_init: `[M, n]`, or `[n]` for all rows; ascending.
        reduction: ``mean`` (c = 1/n) or ``sum`` (c = 1).

    Returns:
        Penalties ``c sum (w - q)^2`` `[M]` and gradients ``2 c (w - q)`` `[M, n]`; NaN for a row that holds a NaN or an
        infinity. Neither is part of a graph.

    Raises:
        ValueError: if `reduction` is unknown, or shapes or devices do not fit together.
        TypeError: if a tensor does not hold floating-point numbers.
    """
    weights, sorted_init = weights.detach(), sorted_init.detach()
    _check(weights, weights, sorted_init)
    factor = reference.coefficient(reduction, weights.shape[-1])
    return kernels(weights, sorted_init).penalty_and_gradient(weights, sorted_init, factor)


def target(w: Tensor, sorted_init: Tensor) -> Tensor:
    """What each weight is pulled to, the initial weight of the same rank, by the fastest kernel for the device.

    Args:
        w: `[..., n]`.
        sorted_init: shaped as `w`, or `[n]` for all rows; ascending.

    Returns:
        q `[..., n]` with ``q = sorted_init[rank(w)]``, the bits of `reference.target`; NaN throughout a row that holds
        a NaN or an infinity. Not differentiable.

    Raises:
        ValueError: if shapes or devices do not fit together.
        TypeError: if a tensor does not hold floating-point numbers.
    """
    w, sorted_init = w.detach(), sorted_init.detach()
    _check(w, w, sorted_init)
    return kernels(w, sorted_init).target(w, sorted_init)


def kernels(w: Tensor, sorted_init: Tensor) -> ModuleType:
    """The module whose `target` and `penalty_and_gradient` serve these tensors: the only place that chooses."""
    if w.dtype == sorted_init.dtype == torch.float32:
        if w.device.type == "cpu":
            from fastplast_kernels.wasserstein import cpu_rows  # Numba is imported when first needed

            return cpu_rows
        if w.is_cuda and find_spec("triton"):
            from fastplast_kernels.wasserstein import gpu_rows

            return gpu_rows
    return reference


class _Penalty(torch.autograd.Function):
    """Rows `[..., n]` to penalty and gradient. The gradient's own derivative is 2 c, as small steps keep ranks."""

    @staticmethod
    def forward(w: Tensor, sorted_init: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        return kernels(w, sorted_init).penalty_and_gradient(w, sorted_init, factor)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.factor = inputs[2]
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *grads: Tensor | None):
        (gradient,), (of_penalty, of_gradient) = ctx.saved_tensors, grads
        total = None if of_penalty is None else of_penalty.unsqueeze(-1) * gradient
        if of_gradient is not None:
            through = 2.0 * ctx.factor * of_gradient
            total = through if total is None else total + through
        return total, None, None

    @staticmethod
    def jvp(ctx, *tangents: Tensor | None):
        (gradient,), w = ctx.saved_tensors, tangents[0]
        return (None, None) if w is None else ((gradient * w).sum(-1), 2.0 * ctx.factor * w)

    @staticmethod
    def vmap(info, in_dims, w: Tensor, sorted_init: Tensor, factor: float):
        """Members become rows of one call."""
        w = w.expand(info.batch_size, *w.shape) if in_dims[0] is None else w.movedim(in_dims[0], 0)
        sorted_init = sorted_init.unsqueeze(0) if in_dims[1] is None else sorted_init.movedim(in_dims[1], 0)
        return _Penalty.apply(w, sorted_init, factor), (0, 0)


def _check(w: Tensor, flat: Tensor, sorted_init: Tensor) -> None:
    """Refuses what no kernel can serve; `flat` is `w` as rows.

    Raises:
        TypeError: if a tensor does not hold floating-point numbers.
        ValueError: if shapes or devices do not fit together.
    """
    if not (flat.is_floating_point() and sorted_init.is_floating_point()):
        raise TypeError(
            f"w and sorted_init must be floating: got {w.dtype} and {sorted_init.dtype}. Convert with .float()."
        )
    if w.device != sorted_init.device:
        raise ValueError(
            f"sorted_init must lie where w does: got {sorted_init.device} and {w.device}. Move it with .to()."
        )
    if sorted_init.shape not in (flat.shape, flat.shape[-1:]) or flat.numel() == 0:
        raise ValueError(
            f"sorted_init must hold as many values as w: got {tuple(sorted_init.shape)} for w {tuple(w.shape)}. Make "
            "it with sort_init(w): [n] for one tensor, [M, n] for a stack."
        )
