"""The definition of the training step: closed-form gradients of convolutional networks, in plain torch.

A convolution is a dense layer that sees the patches of its input: with U the linear map from an image to its patches
`[C k k, pixels]` (``unfold``), z = W U(h) + b for every pixel, and with D the gradient of the mean cross-entropy with
respect to z, dW = sum over examples of D U(h)', db = sum of D over examples and pixels, dh = U'(W' D) (``fold``). Max
pooling hands the gradient of a window to its largest pixel, the first among equals. Dense layers, pull and optimiser
are those of `mlp_step.reference`. All of it for `M` members at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from fastplast_kernels.conv_step.layers import ConvLayer
from fastplast_kernels.mlp_step import DenseLayer
from fastplast_kernels.mlp_step.reference import ACTIVATIONS, bias_of, pull, weight_of
from fastplast_kernels.update import Hyperparameters, update
from torch import Tensor
from torch.nn import functional

Layer = ConvLayer | DenseLayer


def _patches(layer: ConvLayer, h: Tensor) -> Tensor:
    """From images `[M, B, ...]` to patches `[M, B, C k k, pixels]`."""
    images = h.reshape(-1, layer.channels, layer.height, layer.width)
    patches = functional.unfold(images, layer.kernel, padding=layer.padding, stride=layer.stride)
    return patches.unflatten(0, h.shape[:2])


def _fold(layer: ConvLayer, patches: Tensor) -> Tensor:
    """The transpose of `_patches`, to images `[M, B, C, height, width]`."""
    size = (layer.height, layer.width)
    images = functional.fold(patches.flatten(0, 1), size, layer.kernel, padding=layer.padding, stride=layer.stride)
    return images.unflatten(0, patches.shape[:2])


def _pool(layer: Layer, h: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the layer above sees of activations `[M, B, ...]`, and for each pooled pixel the one that it is of."""
    if not isinstance(layer, ConvLayer) or layer.pool == 1:
        return h, None
    pooled, indices = functional.max_pool2d(h.flatten(0, 1), layer.pool, return_indices=True)
    return pooled.unflatten(0, h.shape[:2]), indices.unflatten(0, h.shape[:2])


def _unpool(h: Tensor, indices: Tensor | None, d: Tensor) -> Tensor:
    """The gradient of activations `[M, B, ...]` from that of what the layer above sees."""
    if indices is None:
        return d.reshape(h.shape)
    flat = torch.zeros_like(h).flatten(3)
    return flat.scatter_(3, indices.flatten(3), d.reshape(indices.shape).flatten(3)).view(h.shape)


def activations(params: Tensor, layers: Sequence[Layer], x: Tensor) -> list[Tensor]:
    """The input and the outputs of all layers.

    Args:
        params: `[M, P]`.
        layers: convolutions, then dense layers.
        x: `[M, B, I]`, channels first and flattened.

    Returns:
        L + 1 tensors, `[M, B, O, height, width]` of convolutions, before the pooling, and `[M, B, O]` of dense layers,
        the last one the logits.
    """
    values = [x]
    for layer in layers:
        w, b = weight_of(params, layer), bias_of(params, layer)
        if isinstance(layer, ConvLayer):
            z = w[:, None] @ _patches(layer, x) + b[:, None, :, None]
            z = z.unflatten(3, (layer.out_height, layer.out_width))
        else:
            z = torch.baddbmm(b[:, None], x.flatten(2), w.transpose(1, 2))
        values.append(ACTIVATIONS[layer.activation][0](z, layer.slope))
        x, _ = _pool(layer, values[-1])
    return values


def gradients(params: Tensor, layers: Sequence[Layer], x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the mean cross-entropy of a minibatch.

    Args:
        params: `[M, P]`.
        layers: convolutions, then dense layers.
        x: `[M, B, I]`.
        labels: `[M, B]` int64.

    Returns:
        The gradient `[M, P]`, zero on padding; the loss `[M]`; the misclassified fraction `[M]` float64.
    """
    values, grads = activations(params, layers, x), torch.zeros_like(params)
    logits = values[-1]
    loss = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
    error = (logits.argmax(2) != labels).double().mean(1)
    d = (logits.softmax(2) - functional.one_hot(labels, logits.shape[2])) / labels.shape[1]
    pooled = [(x, None), *(_pool(layer, value) for layer, value in zip(layers, values[1:]))]
    for i in reversed(range(len(layers))):
        layer, w, (seen, indices) = layers[i], weight_of(params, layers[i]), pooled[i]
        if isinstance(layer, ConvLayer):
            d = d.flatten(3)
            weight_of(grads, layer).copy_((d @ _patches(layer, seen).transpose(2, 3)).sum(1))
            bias_of(grads, layer).copy_(d.sum((1, 3)))
            d = _fold(layer, w.transpose(1, 2)[:, None] @ d)
        else:
            weight_of(grads, layer).copy_(d.transpose(1, 2) @ seen.flatten(2))
            bias_of(grads, layer).copy_(d.sum(1))
            d = d @ w
        if i > 0:
            below = layers[i - 1]
            d = ACTIVATIONS[below.activation][1](_unpool(values[i], indices, d), values[i], below.slope)
    return grads, loss, error


def train(
    params: Tensor,
    m: Tensor,
    v: Tensor,
    steps: Tensor,
    diverged: Tensor,
    layers: Sequence[Layer],
    inputs: Callable[[Tensor], Tensor],
    labels: Tensor,
    order: Tensor,
    hyper: Hyperparameters,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
) -> Tensor:
    """Trains members on minibatches in order, as `mlp_step.reference.train` does, changing the first five arguments.

    Args:
        params: `[M, P]` float32.
        m: `[M, P]` float32, first moments or momentum buffers.
        v: `[M, P]` float32, second moments.
        steps: `[M]` int64, updates made so far.
        diverged: `[M]` int64, the update before which a member was frozen, or -1.
        layers: convolutions, then dense layers.
        inputs: from positions `[M, B]` to inputs `[M, B, I]`, whose dtype is that of the passes forward and backward.
        labels: `[M, N]` int64.
        order: `[M, S, B]` int64; -1 ends a ragged batch, of all members at the same place.
        hyper: per member.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly.
        anchor: `[M, P]`, see `mlp_step.reference.pull`.
        ranked: `[M]` bool, see `mlp_step.reference.pull`.

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
