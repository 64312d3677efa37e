"""The definition of the training step: closed-form gradients of multilayer perceptrons, in plain torch.

Forward, with h_0 = x and for each layer l: z_l = h_{l-1} W_l' + b_l, h_l = f(z_l). Backward, with D_l the gradient of
the mean cross-entropy with respect to z_l: D_L = (softmax(z_L) - onehot) / B, D_{l-1} = (D_l W_l) f'(z_{l-1}), and
dW_l = D_l' h_{l-1}, db_l = sum_b D_l. All of it for `M` members at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from fastplast_kernels.mlp_step.layers import DenseLayer
from fastplast_kernels.update import Hyperparameters, pull_gradient, update
from fastplast_kernels.wasserstein.reference import target as ranked_target
from torch import Tensor
from torch.nn import functional

# Name to the function of (z, slope), and its derivative from (h, slope) where h is the function's value.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], Callable[[Tensor, float], Tensor]]] = {
    "identity": (lambda z, slope: z, lambda h, slope: torch.ones_like(h)),
    "relu": (lambda z, slope: torch.relu(z), lambda h, slope: (h > 0).to(h.dtype)),
    "leaky_relu": (
        lambda z, slope: torch.where(z > 0, z, slope * z),
        lambda h, slope: torch.where(h > 0, torch.ones_like(h), slope),
    ),
    "tanh": (lambda z, slope: torch.tanh(z), lambda h, slope: 1 - h * h),
}


def weight_of(params: Tensor, layer: DenseLayer) -> Tensor:
    """The layer's weight matrices `[M, O, I]`, a view of the arena `[M, P]`."""
    return params[:, layer.weight : layer.weight + layer.inputs * layer.outputs].unflatten(
        1, (layer.outputs, layer.inputs)
    )


def bias_of(params: Tensor, layer: DenseLayer) -> Tensor:
    """The layer's biases `[M, O]`, a view of the arena `[M, P]`."""
    return params[:, layer.bias : layer.bias + layer.outputs]


def activations(params: Tensor, layers: Sequence[DenseLayer], x: Tensor) -> list[Tensor]:
    """The input and the outputs of all layers.

    Args:
        params: `[M, P]`.
        layers: input to output.
        x: `[M, B, I]`.

    Returns:
        L + 1 tensors `[M, B, O]`, the last one the logits.
    """
    values = [x]
    for layer in layers:
        z = torch.baddbmm(bias_of(params, layer)[:, None], values[-1], weight_of(params, layer).transpose(1, 2))
        values.append(ACTIVATIONS[layer.activation][0](z, layer.slope))
    return values


def gradients(params: Tensor, layers: Sequence[DenseLayer], x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the mean cross-entropy of a minibatch.

    Args:
        params: `[M, P]`.
        layers: input to output.
        x: `[M, B, I]`.
        labels: `[M, B]` int64.

    Returns:
        The gradient `[M, P]`, zero on padding; the loss `[M]`; the misclassified fraction `[M]` float64.
    """
    values, grads = activations(params, layers, x), torch.zeros_like(params)
    logits = values[-1]
    loss = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
    error = (logits.argmax(2) != labels).double().mean(1)
    onehot = functional.one_hot(labels, logits.shape[2])
    d = (logits.softmax(2) - onehot) / labels.shape[1]
    for i in reversed(range(len(layers))):
        weight_of(grads, layers[i]).copy_(d.transpose(1, 2) @ values[i])
        bias_of(grads, layers[i]).copy_(d.sum(1))
        if i > 0:
            below = layers[i - 1]
            d = (d @ weight_of(params, layers[i])) * ACTIVATIONS[below.activation][1](values[i], below.slope)
    return grads, loss, error


def pull(
    params: Tensor, layers: Sequence[DenseLayer], strength: Tensor, anchor: Tensor, ranked: Tensor | None
) -> Tensor:
    """Gradient of the penalty `[M, P]`: 2 strength c (w - q), c the layer's factor on its weight matrix, else 0.

    Args:
        params: `[M, P]`.
        layers: input to output.
        strength: `[M]` float64.
        anchor: `[M, P]`; q itself, or for ranked members the sorted values of q of each weight matrix.
        ranked: `[M]` bool, or None for none.

    Returns:
        The gradient.
    """
    factor, q = torch.zeros(params.shape[1], dtype=params.dtype), anchor.clone()
    for layer in layers:
        weights = slice(layer.weight, layer.weight + layer.inputs * layer.outputs)
        factor[weights] = layer.pull
        if ranked is not None:
            q[ranked, weights] = ranked_target(params[ranked, weights], anchor[ranked, weights])
    return pull_gradient(params, q, strength, factor)


def train(
    params: Tensor,
    m: Tensor,
    v: Tensor,
    steps: Tensor,
    diverged: Tensor,
    layers: Sequence[DenseLayer],
    inputs: Callable[[Tensor], Tensor],
    labels: Tensor,
    order: Tensor,
    hyper: Hyperparameters,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
) -> Tensor:
    """Trains members on minibatches in order, changing the first five arguments in place.

    A member whose loss, or the L1 norm of whose update, is not finite is left as it was before that update.

    Args:
        params: `[M, P]` float32.
        m: `[M, P]` float32, first moments or momentum buffers.
        v: `[M, P]` float32, second moments.
        steps: `[M]` int64, updates made so far.
        diverged: `[M]` int64, the update before which a member was frozen, or -1.
        layers: input to output.
        inputs: from positions `[M, B]` to inputs `[M, B, I]`, whose dtype is that of the passes forward and backward.
        labels: `[M, N]` int64.
        order: `[M, S, B]` int64; -1 ends a ragged batch, of all members at the same place.
        hyper: per member.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly.
        anchor: `[M, P]`, see `pull`.
        ranked: `[M]` bool, see `pull`.

    Returns:
        `[4, M]` float64: sums of loss, error, mean |change| and Euclidean length of the change.
    """
    sums = torch.zeros(4, len(params), dtype=torch.float64)
    count = sum(layer.count for layer in layers)
    for s in range(order.shape[1]):
        positions = order[:, s, : int((order[0, s] >= 0).sum())]
        x = inputs(positions)
        grads, loss, error = gradients(params.to(x.dtype), layers, x, labels.gather(1, positions))
        grads = grads.to(params.dtype)
        if anchor is not None:
            grads = grads + pull(params, layers, hyper.strength, anchor, ranked)
        new = update(params, grads, m, v, steps + 1, hyper, optimizer, decoupled)
        change = (new[0] - params).double()
        l1, l2 = change.abs().sum(1) / count, change.square().sum(1).sqrt()
        healthy = (diverged < 0) & loss.isfinite() & l1.isfinite()
        diverged.copy_(torch.where((diverged < 0) & ~healthy, steps, diverged))
        for old, value in zip((params, m, v), new):
            old[healthy] = value[healthy]
        steps += healthy
        sums += torch.where(healthy, torch.stack((loss.double(), error, l1, l2)), 0.0)
    return sums
