"""What a convolution may do beside its product and an elementwise activation: layer normalisation, CReLU, dropout.

All work on groups of images as `conv` stores them, and on rows of their pixels.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.conv_step.conv import area_above, interleave
from fastplast_kernels.conv_step.tiles import GROUP
from fastplast_kernels.dropout.cpu import fill_mask
from fastplast_kernels.mlp_step.activations import relu
from fastplast_kernels.mlp_step.layers import NORM_EPSILON
from fastplast_kernels.mlp_step.simd import LANES, fma, load, splat, sqrt, store, sum_lanes, where_positive


@called
def concatenated_relu_row(layer, row, images, at):
    """Writes CReLU of a row, [relu(z), relu(-z)] of each pixel, to its place in the images."""
    length, zero = layer.outputs * GROUP, splat(0.0)
    for p in range(0, layer.out_width * layer.y_pixel, layer.y_pixel):
        for k in range(p, p + length, LANES):
            z = load(row, k)
            store(images, at + k, relu(z))
            store(images, at + length + k, relu(zero - z))


@called
def concatenated_relu_backward_row(layer, row, start, images, at, pixels):
    """Puts the gradient with respect to z in place of relu(z), from that of both halves of so many pixels."""
    length, zero = layer.outputs * GROUP, splat(0.0)
    for p in range(0, pixels * layer.y_pixel, layer.y_pixel):
        for k in range(p, p + length, LANES):
            one = where_positive(load(images, at + k), load(row, start + k), zero)
            two = where_positive(load(images, at + length + k), load(row, start + length + k), zero)
            store(images, at + k, one - two)


@called
def times_row(row, start, images, mask, length):
    """Multiplies a row by a mask that lies in the images."""
    for k in range(0, length, LANES):
        store(row, start + k, load(row, start + k) * load(images, mask + k))


@called
def drop(layer, rate, stream, first, images, group, flat):
    """Makes the mask of a group of examples, and what the layer above sees.

    Args:
        layer: the layer.
        rate: of dropout.
        stream: of the member's masks.
        first: number of the group's first example in the minibatch.
        images: all images.
        group: index of the group of examples in them.
        flat: scratch for the masks of the group as `fill_mask` writes them.
    """
    area, zero = area_above(layer), np.int64(0)
    width, mask = layer.above * area, group + layer.mask
    fill_mask(stream, layer.number, rate, flat, zero, first * width, GROUP * width)
    interleave(flat, zero, width, layer.above, area, images, mask, layer.y_pixel)
    before = layer.seen if layer.pool > 1 else layer.y
    for k in range(0, area * layer.y_pixel, LANES):
        store(images, group + layer.seen + k, load(images, group + before + k) * load(images, mask + k))


@called
def _clear(sums, length):
    for k in range(0, length, LANES):
        store(sums, k, splat(0.0))


@called
def _total(sums, at, outputs):
    """Sum over the channels, for eight examples."""
    total = splat(0.0)
    for k in range(at, at + outputs * GROUP, GROUP):
        total = total + load(sums, k)
    return total


@called
def _scaled_total(sums, at, outputs, params, scale):
    """Sum over the channels times their scales, for eight examples."""
    total = splat(0.0)
    for o in range(outputs):
        total = fma(splat(params[scale + o]), load(sums, at + o * GROUP), total)
    return total


@called
def standardise(layer, images, group, sums):
    """Layer normalisation of `mlp_step.modifications`, over channels and pixels: subtracts the mean, and finds r.

    Sums are over the pixels of a channel, then over the channels.

    Args:
        layer: the layer.
        images: all images, of which the outputs at `layer.standard` become z - mean(z).
        group: index of the group of examples in them.
        sums: scratch `[O * GROUP]`.
    """
    length, start, r = layer.outputs * GROUP, group + layer.standard, group + layer.factor
    area = layer.out_height * layer.out_width
    count, end = splat(np.float32(layer.outputs * area)), start + area * layer.y_pixel
    _clear(sums, length)
    for at in range(start, end, layer.y_pixel):
        for k in range(0, length, LANES):
            store(sums, k, load(sums, k) + load(images, at + k))
    zero, half = np.int64(0), np.int64(LANES)  # not literals, for which a function would be compiled once more
    low, high = _total(sums, zero, layer.outputs) / count, _total(sums, half, layer.outputs) / count
    _clear(sums, length)
    for at in range(start, end, layer.y_pixel):
        for k in range(0, length, GROUP):
            a, b = load(images, at + k) - low, load(images, at + k + LANES) - high
            store(images, at + k, a)
            store(images, at + k + LANES, b)
            store(sums, k, fma(a, a, load(sums, k)))
            store(sums, k + LANES, fma(b, b, load(sums, k + LANES)))
    for half in range(0, GROUP, LANES):
        variance = _total(sums, half, layer.outputs) / count
        store(images, r + half, splat(1.0) / sqrt(variance + splat(NORM_EPSILON)))


@called
def standard_row(layer, i, params, images, group, row):
    """Row i of u = (z - mean(z)) r, in place of z - mean(z), and the row of scale * u + shift."""
    line = layer.out_width * layer.y_pixel
    start, r = group + layer.standard + i * line, group + layer.factor
    low, high = load(images, r), load(images, r + LANES)
    for p in range(0, line, layer.y_pixel):
        for o in range(layer.outputs):
            k, scale, shift = p + o * GROUP, splat(params[layer.scale + o]), splat(params[layer.shift + o])
            a, b = load(images, start + k) * low, load(images, start + k + LANES) * high
            store(images, start + k, a)
            store(images, start + k + LANES, b)
            store(row, k, fma(scale, a, shift))
            store(row, k + LANES, fma(scale, b, shift))


@called
def standardise_backward(layer, params, images, group, sums, scale_gradient, shift_gradient):
    """The gradient through the normalisation, as in `mlp_step.modifications`, in its place.

    Args:
        layer: the layer.
        params: the parameters.
        images: all images, where the layer's output has made place for its gradient.
        group: index of the group of examples in them.
        sums: scratch `[2 * O * GROUP]`.
        scale_gradient: `[O]`, to which the group's part is added.
        shift_gradient: `[O]`, to which the group's part is added.
    """
    length, start, apart = layer.outputs * GROUP, group + layer.y, layer.standard - layer.y
    area, r = layer.out_height * layer.out_width, group + layer.factor
    count, end = splat(np.float32(layer.outputs * area)), start + area * layer.y_pixel
    _clear(sums, 2 * length)
    for at in range(start, end, layer.y_pixel):
        for k in range(0, length, LANES):
            d = load(images, at + k)
            store(sums, k, load(sums, k) + d)
            store(sums, length + k, fma(d, load(images, at + apart + k), load(sums, length + k)))
    for o in range(layer.outputs):
        k = o * GROUP
        shift_gradient[o] += np.float32(sum_lanes(load(sums, k) + load(sums, k + LANES)))
        scale_gradient[o] += np.float32(sum_lanes(load(sums, length + k) + load(sums, length + k + LANES)))
    for half in range(0, GROUP, LANES):
        mean = _scaled_total(sums, half, layer.outputs, params, layer.scale) / count
        slope = _scaled_total(sums, length + half, layer.outputs, params, layer.scale) / count
        factor = load(images, r + half)
        for at in range(start + half, end, layer.y_pixel):
            for o in range(layer.outputs):
                k = at + o * GROUP
                g = splat(params[layer.scale + o]) * load(images, k)
                store(images, k, factor * (g - mean - load(images, k + apart) * slope))
