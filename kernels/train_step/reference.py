"""The definition of the training step: closed-form gradients of perceptrons and convolutional networks, in plain torch.

Forward, with h_0 = x and for each layer l: z_l = h_{l-1} W_l' + b_l, h_l = f(z_l). Backward, with D_l the gradient of
the mean cross-entropy with respect to z_l: D_L = (softmax(z_L) - onehot) / B, D_{l-1} = (D_l W_l) f'(z_{l-1}), and
dW_l = D_l' h_{l-1}, db_l = sum_b D_l. All of it for `M` members at once.

A convolution is a dense layer that sees the patches of its input: with U the linear map from an image to its patches
`[C k k, pixels]` (``unfold``), z = W U(h) + b for every pixel, and dW = sum over examples of D U(h)', db = sum of D
over examples and pixels, dh = U'(W' D) (``fold``). Max pooling hands the gradient of a window to its largest pixel, the
first among equals.

Where a layer is normalised, f sees s u + t with u = (z - mean(z)) r, r = 1 / sqrt(var(z) + epsilon) over its outputs,
channels and pixels (Ba, Kiros, Hinton, "Layer normalization", 2016). With E the gradient with respect to that:
ds = sum E u, dt = sum E over examples and pixels, and with G = E s, D = r (G - mean(G) - u mean(G u)). CReLU doubles
outputs. Dropout multiplies what the layer above sees, and the gradient that comes back to it, by a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from fastplast_kernels.dropout.reference import dropout_mask
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.train_step.layers import NORM_EPSILON, ConvLayer, Layer
from fastplast_kernels.update import pull_gradient, update
from fastplast_kernels.wasserstein.reference import target as ranked_target
from torch import Tensor
from torch.nn import functional

Masks = Sequence[Tensor | None]


def _crelu_gradient(d: Tensor, h: Tensor, slope: float) -> Tensor:
    above, below = (d * (h > 0)).chunk(2, 2)
    return above - below


# Name to the function of (z, slope), and the gradient before it from (gradient after it, its value, slope). Units are
# the third axis.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], Callable[[Tensor, Tensor, float], Tensor]]] = {
    "identity": (lambda z, slope: z, lambda d, h, slope: d),
    "relu": (lambda z, slope: torch.relu(z), lambda d, h, slope: d * (h > 0)),
    "leaky_relu": (
        lambda z, slope: torch.where(z > 0, z, slope * z),
        lambda d, h, slope: torch.where(h > 0, d, slope * d),
    ),
    "tanh": (lambda z, slope: torch.tanh(z), lambda d, h, slope: d * (1 - h * h)),
    "crelu": (lambda z, slope: torch.cat((torch.relu(z), torch.relu(-z)), 2), _crelu_gradient),
}


def weight_of(params: Tensor, layer: Layer) -> Tensor:
    """The layer's weight matrices `[M, O, I]`, a view of the arena `[M, P]`."""
    return params[:, layer.weight : layer.weight + layer.inputs * layer.outputs].unflatten(
        1, (layer.outputs, layer.inputs)
    )


def bias_of(params: Tensor, layer: Layer) -> Tensor:
    """The layer's biases `[M, O]`, a view of the arena `[M, P]`."""
    return params[:, layer.bias : layer.bias + layer.outputs]


def _row(params: Tensor, at: int, layer: Layer) -> Tensor:
    """One number per output `[M, O]`, a view of the arena."""
    return params[:, at : at + layer.outputs]


def _over_units(params: Tensor, at: int, layer: Layer, z: Tensor) -> Tensor:
    """One number per output, to multiply or add to outputs `[M, B, O, ...]`."""
    return _row(params, at, layer)[:, None].unflatten(2, (layer.outputs, *(1,) * (z.ndim - 3)))


class Values(NamedTuple):
    """What a layer computes: its inputs, the normalised outputs u and factors r where it is normalised, activations."""

    inputs: Tensor
    standard: Tensor | None
    factor: Tensor | None
    activations: Tensor


def values_of(params: Tensor, layer: Layer, x: Tensor, z: Tensor) -> Values:
    """What a layer computes from its product: normalisation over all but the first two axes, then the activation.

    Args:
        params: `[M, P]`.
        layer: the layer.
        x: `[M, B, ...]`, the layer's inputs.
        z: `[M, B, O, ...]`.

    Returns:
        The values.
    """
    standard = factor = None
    if layer.normed:
        axes = tuple(range(2, z.ndim))
        factor = (z.var(axes, correction=0, keepdim=True) + NORM_EPSILON).rsqrt()
        standard = (z - z.mean(axes, keepdim=True)) * factor
        scale, shift = (_over_units(params, at, layer, z) for at in (layer.norm_scale, layer.norm_shift))
        z = scale * standard + shift
    return Values(x, standard, factor, ACTIVATIONS[layer.activation][0](z, layer.slope))


def times_mask(values: Tensor, mask: Tensor | None) -> Tensor:
    """Dropout of values, or of their gradients."""
    return values if mask is None else values.reshape(mask.shape) * mask.to(values.dtype)


def gradient_before(params: Tensor, layer: Layer, values: Values, d: Tensor, grads: Tensor) -> Tensor:
    """Takes a gradient back through `values_of`, and fills those of scale and shift.

    Args:
        params: `[M, P]`.
        layer: the layer.
        values: of the layer.
        d: gradient with respect to its activations.
        grads: `[M, P]`, filled in place.

    Returns:
        That with respect to z.
    """
    d = ACTIVATIONS[layer.activation][1](d, values.activations, layer.slope)
    u, r = values.standard, values.factor
    if u is None or r is None:  # not normalised
        return d
    axes = tuple(range(2, u.ndim))
    others = (1, *axes[1:])
    _row(grads, layer.norm_scale, layer).copy_((d * u).sum(others))
    _row(grads, layer.norm_shift, layer).copy_(d.sum(others))
    g = d * _over_units(params, layer.norm_scale, layer, d)
    return r * (g - g.mean(axes, keepdim=True) - u * (g * u).mean(axes, keepdim=True))


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


def dropout_masks(layers: Sequence[Layer], keys: Tensor, steps: Tensor, batch: int) -> list[Tensor | None]:
    """The masks of an update.

    Args:
        layers: input to output.
        keys: `[M, 2]` int64, of `dropout.dropout_mask`.
        steps: `[M]` int64, updates made so far.
        batch: B.

    Returns:
        `[M, B, ...]` for each layer with dropout, of what the layer above sees; None for the others.
    """
    return [
        dropout_mask(keys, steps, layer.number, (batch, *layer.shape_above), layer.dropout) if layer.dropout else None
        for layer in layers
    ]


def pull(params: Tensor, layers: Sequence[Layer], strength: Tensor, anchor: Tensor, ranked: Tensor | None) -> Tensor:
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
    layers: Sequence[Layer],
    inputs: Callable[[Tensor], Tensor],
    labels: Tensor,
    order: Tensor,
    hyper: Hyperparameters,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
    keys: Tensor | None = None,
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
        keys: `[M, 2]` int64, of the masks of dropout; None where no layer has any.

    Returns:
        `[4, M]` float64: sums of loss, error, mean |change| and Euclidean length of the change.
    """
    sums = torch.zeros(4, len(params), dtype=torch.float64)
    count = sum(layer.count for layer in layers)
    for s in range(order.shape[1]):
        positions = order[:, s, : int((order[0, s] >= 0).sum())]
        x = inputs(positions)
        masks = None if keys is None else dropout_masks(layers, keys, steps, positions.shape[1])
        grads, loss, error = gradients(params.to(x.dtype), layers, x, labels.gather(1, positions), masks)
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
