"""The definition of one optimiser step on arenas `[M, P]`, with hyperparameters of each member's own."""

from __future__ import annotations

import torch
from fastplast_kernels.optimisers import Hyperparameters
from torch import Tensor


def pull_gradient(params: Tensor, target: Tensor, strength: Tensor, factor: Tensor) -> Tensor:
    """Gradient of the penalty ``strength_m * sum_p factor_p (w_p - target_p)^2``.

    With target 0 this is L2, with the initial weights the regenerative regulariser (Kumar et al. 2023), with the
    sorted initial weights dealt out by rank the Wasserstein regulariser (Lewandowski et al. 2023, section 5).

    Args:
        params: `[M, P]`.
        target: `[M, P]`.
        strength: `[M]` float64.
        factor: `[P]`, 1/d or 1 on weight matrices of d elements, 0 elsewhere.

    Returns:
        `[M, P]`: 2 strength factor (w - target), exactly 0 for members of strength 0.
    """
    return (params - target) * ((2.0 * strength).float()[:, None] * factor)


def update(
    params: Tensor,
    grads: Tensor,
    m: Tensor,
    v: Tensor,
    steps: Tensor,
    hyper: Hyperparameters,
    optimizer: str,
    decoupled: bool,
    coefficients: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of ``adam`` (Kingma, Ba 2015, algorithm 1) or ``sgd`` with momentum, as ``torch.optim`` does it.

    Scalars of a member (step size, bias corrections) are formed in float64 and rounded once.

    Args:
        params: `[M, P]` float32.
        grads: `[M, P]` float32, regulariser included.
        m: `[M, P]` first moment, or the momentum buffer of ``sgd``.
        v: `[M, P]` second moment; untouched by ``sgd``.
        steps: `[M]` int64, number of this update for each member, from 1.
        hyper: hyperparameters.
        optimizer: ``adam``, ``adamw`` (the same; the caller says whether decay is decoupled) or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly (Loshchilov, Hutter 2019) or enters the gradient.
        coefficients: of ``adam``, learning rate / (1 - beta1^t) and sqrt(1 - beta2^t) of each weight, `[M, P]` float32,
            where weights count updates of their own; else they follow from ``steps``.

    Returns:
        New params, m and v.
    """

    def column(value: Tensor) -> Tensor:
        return value.float()[:, None]

    if decoupled:
        params = params * column(1.0 - hyper.learning_rate * hyper.weight_decay)
    else:  # no value is read, for which a GPU would be waited for
        grads = torch.where(column(hyper.weight_decay) != 0, grads + column(hyper.weight_decay) * params, grads)
    if optimizer == "sgd":
        m = column(hyper.momentum) * m + grads
        return params - column(hyper.learning_rate) * m, m, v
    m = torch.lerp(m, grads, column(1.0 - hyper.beta1))
    v = column(hyper.beta2) * v + column(1.0 - hyper.beta2) * (grads * grads)
    if coefficients is None:
        rate = hyper.learning_rate / (1.0 - hyper.beta1**steps)
        coefficients = column(rate), column((1.0 - hyper.beta2**steps).sqrt())
    denominator = v.sqrt() / coefficients[1] + column(hyper.epsilon)
    return params - coefficients[0] * (m / denominator), m, v
