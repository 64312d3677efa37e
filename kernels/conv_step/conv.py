"""A convolution of one member: forward pass, gradient of the input, gradients of weights and bias.

Images are stored in groups of sixteen examples, pixel by pixel: element (pixel, channel, example) of a group at
pixel * pixel stride + channel * GROUP + example. What a pixel of the output needs of a row of the input is then one run
of cache lines. Taps that fall on the padding are left out: each row and each column of pixels has its entry in a table
of taps. Arrays are `pointer`s and `integers`, which are free to pass on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.constants import CODES
from fastplast_kernels.conv_step.tiles import (
    GROUP,
    PixelStrides,
    Strides,
    correlate,
    merged,
    multiply,
    store_rows,
    transpose,
)
from fastplast_kernels.mlp_step.activations import leaky_relu, relu, tanh
from fastplast_kernels.mlp_step.simd import LANES, load, load_rows, maximum, splat, store, sum_lanes, where_positive

STRIP = 16384  # floats of output gradients that pass through the caches together: 64 KiB
_SPREAD = 16  # floats between pixels of 1 KiB or a multiple, so that neighbours do not fall on the same cache sets
_RELU, _LEAKY_RELU, _TANH, CRELU = (CODES[name] for name in ("relu", "leaky_relu", "tanh", "crelu"))


class Layer(NamedTuple):
    """A convolution's shape, and where its parameters, images and taps lie."""

    channels: int
    height: int
    width: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    out_height: int
    out_width: int
    activation: int
    weight: int  # in the parameters, as is the bias
    bias: int
    x: int  # the input in a group's images
    x_pixel: int  # floats from one pixel of the input to the next
    y: int  # the output
    y_pixel: int
    forward_i: int  # first row in the table of taps: of `forward_taps` along the height
    forward_j: int  # along the width
    backward_i: int  # of `backward_taps` along the height
    backward_j: int  # along the width
    pool: int
    seen: int  # what the layer above sees, after pooling and dropout; y without
    above: int  # channels of the activations
    scale: int  # of the normalisation, in the parameters, as is the shift
    shift: int
    standard: int  # what is normalised, -1 for nothing
    factor: int  # by what, one number for each example
    mask: int  # of dropout, -1 for none
    number: int  # in the masks' stream


@called
def area_above(layer):
    """Pixels of what the layer above sees."""
    return (layer.out_height // layer.pool) * (layer.out_width // layer.pool)


def pixel_stride(channels: int) -> int:
    """Floats from one pixel of a group of images to the next."""
    floats = channels * GROUP
    return floats + _SPREAD if floats % 256 == 0 else floats


def forward_taps(size: int, out_size: int, kernel: int, stride: int, padding: int) -> np.ndarray:
    """What each output position along an axis sees of the image.

    Args:
        size: of the image.
        out_size: of the output.
        kernel: its size.
        stride: of the convolution.
        padding: of the convolution.

    Returns:
        `[out_size, 3]` int64: number of taps on the image, the first of them, the position under it.
    """
    corner = np.arange(out_size) * stride - padding
    first = np.maximum(0, -corner)
    count = np.maximum(0, np.minimum(kernel, size - corner) - first)
    return np.stack([count, first, corner + first], axis=1).astype(np.int64)


def backward_taps(size: int, out_size: int, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Which outputs see each position of the image along an axis; taps that reach an output are a stride apart.

    Args:
        size: of the image.
        out_size: of the output.
        kernel: its size.
        stride: of the convolution.
        padding: of the convolution.

    Returns:
        `[size, 3]` int64: number of outputs, the tap of the first of them, its position.
    """
    shifted = np.arange(size) + padding
    first = np.maximum(0, shifted - stride * (out_size - 1))
    first += (shifted - first) % stride
    count = np.maximum(0, (np.minimum(kernel - 1, shifted) - first) // stride + 1)
    return np.stack([count, first, (shifted - first) // stride], axis=1).astype(np.int64)


@merged
def conv_forward_row(layer, i, taps, params, images, group, row, start):
    """One row of output pixels, before the activation.

    Args:
        layer: the layer.
        i: the row.
        taps: the table of taps.
        params: the parameters.
        images: all images, of which the layer's input is read.
        group: index of the group of examples in them.
        row: where the result goes, pixel by pixel.
        start: index of its first pixel.
    """
    area, line = layer.kernel * layer.kernel, layer.width * layer.x_pixel
    strides = Strides(
        n_k=layer.channels,
        w_row=layer.channels * area,
        w_i=layer.kernel,
        w_j=1,
        w_k=area,
        x_column=layer.x_pixel,
        x_i=line,
        x_j=layer.x_pixel,
        y_column=layer.y_pixel,
    )
    at = 3 * (layer.forward_i + i)
    n_i, tap, position = taps[at], taps[at + 1], taps[at + 2]
    multiply(
        layer.outputs, strides, taps, layer.forward_j, layer.out_width, n_i, params, layer.weight + tap * layer.kernel,
        images, group + layer.x + position * line, params, layer.bias, row, start,
    )  # fmt: skip


@merged
def conv_backward_row(layer, i, taps, params, images, group, zeros, row):
    """Gradient with respect to one row of input pixels, from the gradient with respect to the output.

    Args:
        layer: the layer.
        i: the row.
        taps: the table of taps.
        params: the parameters.
        images: all images, where the layer's output has made place for its gradient.
        group: index of the group of examples in them.
        zeros: as many zeros as the layer has channels.
        row: the result, pixel by pixel.
    """
    area, line, zero = layer.kernel * layer.kernel, layer.out_width * layer.y_pixel, np.int64(0)
    strides = Strides(
        n_k=layer.outputs,
        w_row=area,
        w_i=layer.stride * layer.kernel,
        w_j=layer.stride,
        w_k=layer.channels * area,
        x_column=layer.y_pixel,
        x_i=-line,
        x_j=-layer.y_pixel,
        y_column=layer.x_pixel,
    )
    at = 3 * (layer.backward_i + i)
    n_i, tap, position = taps[at], taps[at + 1], taps[at + 2]
    multiply(
        layer.channels, strides, taps, layer.backward_j, layer.width, n_i, params, layer.weight + tap * layer.kernel,
        images, group + layer.y + position * line, zeros, zero, row, zero,
    )  # fmt: skip


@called
def activate_row(code, slope, row, images, at, length):
    """Writes the activations of a row to its place in the images."""
    if code == _RELU:
        for k in range(0, length, LANES):
            store(images, at + k, relu(load(row, k)))
    elif code == _LEAKY_RELU:
        for k in range(0, length, LANES):
            store(images, at + k, leaky_relu(load(row, k), splat(slope)))
    elif code == _TANH:
        for k in range(0, length, LANES):
            store(images, at + k, tanh(load(row, k)))
    else:
        for k in range(0, length, LANES):
            store(images, at + k, load(row, k))


@called
def times_derivative_row(code, slope, row, start, images, at, length):
    """Puts a row of gradients, times the derivative of the activation, in place of the activations in the images."""
    if code == _RELU:
        for k in range(0, length, LANES):
            store(images, at + k, where_positive(load(images, at + k), load(row, start + k), splat(0.0)))
    elif code == _LEAKY_RELU:
        for k in range(0, length, LANES):
            d = load(row, start + k)
            store(images, at + k, where_positive(load(images, at + k), d, splat(slope) * d))
    elif code == _TANH:
        for k in range(0, length, LANES):
            h = load(images, at + k)
            store(images, at + k, (splat(1.0) - h * h) * load(row, start + k))
    else:
        for k in range(0, length, LANES):
            store(images, at + k, load(row, start + k))


@called
def _largest(images, at, line, pixel, pool):
    """Of the pixels of a window, for eight examples of a channel."""
    best = load(images, at)
    for i in range(pool):
        for j in range(pool):
            best = maximum(best, load(images, at + i * line + j * pixel))
    return best


@called
def max_pool(layer, images, group):
    """Pools the layer's output; rows and columns that fill no window are left out."""
    line, length, to = layer.out_width * layer.y_pixel, layer.above * GROUP, group + layer.seen
    for i in range(layer.out_height // layer.pool):
        for j in range(layer.out_width // layer.pool):
            at = group + layer.y + layer.pool * (i * line + j * layer.y_pixel)
            for k in range(0, length, LANES):
                store(images, to + k, _largest(images, at + k, line, layer.y_pixel, layer.pool))
            to += layer.y_pixel


@called
def unpool_row(layer, i, gradients, at, images, group, lines):
    """Gives the gradient of a row of pooled pixels to the largest pixel, the first among equals, of each window.

    Args:
        layer: the layer.
        i: the row of pooled pixels.
        gradients: flat array.
        at: index of the row's gradients.
        images: all images, of which the layer's output is read.
        group: index of the group of examples in them.
        lines: the result, as many rows of the output as a window has.
    """
    line, length, zero = layer.out_width * layer.y_pixel, layer.above * GROUP, splat(0.0)
    for k in range(0, layer.pool * line, LANES):
        store(lines, k, zero)
    for j in range(layer.out_width // layer.pool):
        window = layer.pool * j * layer.y_pixel
        y = group + layer.y + layer.pool * i * line + window
        for k in range(0, length, LANES):
            best = _largest(images, y + k, line, layer.y_pixel, layer.pool)
            g = load(gradients, at + j * layer.y_pixel + k)
            for a in range(layer.pool):
                for b in range(layer.pool):
                    pixel = a * line + b * layer.y_pixel + k
                    below = best - load(images, y + pixel)
                    store(lines, window + pixel, where_positive(below, zero, g))
                    g = where_positive(below, g, zero)


@called
def clear_unpooled(layer, images, group):
    """The gradient of the rows of output that fill no window."""
    line, rows = layer.out_width * layer.y_pixel, layer.out_height // layer.pool * layer.pool
    for k in range(rows * line, layer.out_height * line, LANES):
        store(images, group + layer.y + k, splat(0.0))


@called
def _covered(tap, stride, padding, begin, end, size):
    """First and number of the output positions begin..end-1 that see the image through a tap, along one axis."""
    first = max(begin, (padding - tap + stride - 1) // stride)
    last = min(end - 1, (size - 1 + padding - tap) // stride)
    return first, max(0, last - first + 1)


@called
def conv_weight_gradient(layer, images, group, gradient):
    """Adds a group's part of the gradient of the weights.

    Args:
        layer: the layer.
        images: all images, where the layer's output has made place for its gradient.
        group: index of the group of examples in them.
        gradient: `[O * channels * kernel * kernel]`.
    """
    area = layer.kernel * layer.kernel
    strides = PixelStrides(
        d_i=layer.out_width * layer.y_pixel,
        d_j=layer.y_pixel,
        x_i=layer.stride * layer.width * layer.x_pixel,
        x_j=layer.stride * layer.x_pixel,
        g_row=layer.channels * area,
        g_column=area,
    )
    strip = max(1, STRIP // strides.d_i)
    for top in range(0, layer.out_height, strip):
        bottom = min(top + strip, layer.out_height)
        for tap_i in range(layer.kernel):
            i, n_i = _covered(tap_i, layer.stride, layer.padding, top, bottom, layer.height)
            for tap_j in range(layer.kernel):
                j, n_j = _covered(tap_j, layer.stride, layer.padding, 0, layer.out_width, layer.width)
                x_i, x_j = i * layer.stride - layer.padding + tap_i, j * layer.stride - layer.padding + tap_j
                x_at = group + layer.x + (x_i * layer.width + x_j) * layer.x_pixel
                d_at, tap = group + layer.y + i * strides.d_i + j * strides.d_j, tap_i * layer.kernel + tap_j
                correlate(layer.outputs, layer.channels, strides, n_i, n_j, images, d_at, images, x_at, gradient, tap)


@called
def conv_bias_gradient(layer, images, group, sums, gradient):
    """Adds a group's part of the gradient of the bias.

    Args:
        layer: the layer.
        images: all images, where the layer's output has made place for its gradient.
        group: index of the group of examples in them.
        sums: scratch `[O * GROUP]`.
        gradient: `[O]`.
    """
    length = layer.outputs * GROUP
    for k in range(0, length, LANES):
        store(sums, k, splat(0.0))
    for pixel in range(layer.out_height * layer.out_width):
        at = group + layer.y + pixel * layer.y_pixel
        for k in range(0, length, LANES):
            store(sums, k, load(sums, k) + load(images, at + k))
    for o in range(layer.outputs):
        gradient[o] += np.float32(sum_lanes(load(sums, o * GROUP) + load(sums, o * GROUP + LANES)))


@called
def interleave(flat, at, stride, channels, area, images, place, pixel):
    """Makes a group of images out of `GROUP` examples `[channels * area]`.

    Args:
        flat: where the examples are.
        at: index of the first.
        stride: floats from one to the next.
        channels: of an image.
        area: pixels of an image.
        images: where the result goes.
        place: index of the group's first pixel.
        pixel: floats from one pixel to the next.
    """
    whole = area - area % LANES
    for c in range(channels):
        for p in range(0, whole, LANES):
            for half in range(0, GROUP, LANES):
                tile = transpose(load_rows(flat, at + half * stride + c * area + p, stride, LANES))
                store_rows(images, place + p * pixel + c * GROUP + half, pixel, tile, LANES)
        for p in range(whole, area):
            for e in range(GROUP):
                images[place + p * pixel + c * GROUP + e] = flat[at + e * stride + c * area + p]


@called
def deinterleave(images, place, pixel, channels, area, flat, at, stride):
    """The inverse of `interleave`: makes `GROUP` examples out of a group of images."""
    whole = area - area % LANES
    for c in range(channels):
        for p in range(0, whole, LANES):
            for half in range(0, GROUP, LANES):
                tile = transpose(load_rows(images, place + p * pixel + c * GROUP + half, pixel, LANES))
                store_rows(flat, at + half * stride + c * area + p, stride, tile, LANES)
        for p in range(whole, area):
            for e in range(GROUP):
                flat[at + e * stride + c * area + p] = images[place + p * pixel + c * GROUP + e]
