"""The definition of the training step: closed-form gradients of convolutional networks, in plain torch.

A convolution is a dense layer that sees the patches of its input: with U the linear map from an image to its patches
`[C k k, pixels]` (``unfold``), z = W U(h) + b for every pixel, and with D the gradient of the mean cross-entropy with
respect to z, dW = sum over examples of D U(h)', db = sum of D over examples and pixels, dh = U'(W' D) (``fold``). Max
pooling hands the gradient of a window to its largest pixel, the first among equals. Normalisation is over channels and
pixels, CReLU doubles channels, dropout is of what the layer above sees. All else is that of `mlp_step.reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from fastplast_kernels.conv_step.layers import ConvLayer
from fastplast_kernels.mlp_step import DenseLayer
from fastplast_kernels.mlp_step import reference as dense
from fastplast_kernels.mlp_step.reference import (
    Masks,
    Values,
    bias_of,
    gradient_before,
    times_mask,
    values_of,
    weight_of,
)
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


def _forward(params: Tensor, layers: Sequence[Layer], x: Tensor, masks: Masks | None) -> list[Values]:
    kept: list[Values] = []
    for layer, mask in zip(layers, masks or [None] * len(layers)):
        w, b = weight_of(params, layer), bias_of(params, layer)
        if isinstance(layer, ConvLayer):
            z = w[:, None] @ _patches(layer, x) + b[:, None, :, None]
            z = z.unflatten(3, (layer.out_height, layer.out_width))
        else:
            z = torch.baddbmm(b[:, None], x.flatten(2), w.transpose(1, 2))
        kept.append(values_of(params, layer, x, z))
        x = times_mask(_pool(layer, kept[-1].activations)[0], mask)
    return kept


def activations(params: Tensor, layers: Sequence[Layer], x: Tensor, masks: Masks | None = None) -> list[Tensor]:
    """The input and the outputs of all layers.

    Args:
        params: `[M, P]`.
        layers: convolutions, then dense layers.
        x: `[M, B, I]`, channels first and flattened.
        masks: of dropout, one per layer, `[M, B, ...]` of what the layer above sees or None; None for none.

    Returns:
        L + 1 tensors, `[M, B, channels, height, width]` of convolutions, before pooling and dropout, and
        `[M, B, width]` of dense layers, before dropout, the last one the logits.
    """
    return [x, *(values.activations for values in _forward(params, layers, x, masks))]


def gradients(
    params: Tensor, layers: Sequence[Layer], x: Tensor, labels: Tensor, masks: Masks | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the mean cross-entropy of a minibatch.

    Args:
        params: `[M, P]`.
        layers: convolutions, then dense layers.
        x: `[M, B, I]`.
        labels: `[M, B]` int64.
        masks: of dropout, one per layer, `[M, B, ...]` of what the layer above sees or None; None for none.

    Returns:
        The gradient `[M, P]`, zero on padding; the loss `[M]`; the misclassified fraction `[M]` float64.
    """
    kept, grads = _forward(params, layers, x, masks), torch.zeros_like(params)
    logits = kept[-1].activations
    loss = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
    error = (logits.argmax(2) != labels).double().mean(1)
    d = (logits.softmax(2) - functional.one_hot(labels, logits.shape[2])) / labels.shape[1]
    for i in reversed(range(len(layers))):
        layer, values, w = layers[i], kept[i], weight_of(params, layers[i])
        d = times_mask(d, masks[i] if masks else None)
        d = _unpool(values.activations, _pool(layer, values.activations)[1], d)
        d = gradient_before(params, layer, values, d, grads)
        if isinstance(layer, ConvLayer):
            d = d.flatten(3)
            weight_of(grads, layer).copy_((d @ _patches(layer, values.inputs).transpose(2, 3)).sum(1))
            bias_of(grads, layer).copy_(d.sum((1, 3)))
            d = _fold(layer, w.transpose(1, 2)[:, None] @ d)
        else:
            weight_of(grads, layer).copy_(d.transpose(1, 2) @ values.inputs.flatten(2))
            bias_of(grads, layer).copy_(d.sum(1))
            d = d @ w
    return grads, loss, error


train = partial(dense.train, gradients_of=gradients)  # of convolutions, then dense layers
