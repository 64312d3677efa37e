"""Products of a layer that sees images: forward pass, gradient of the input, gradient of the weights.

Images are stored in groups of sixteen examples, pixel by pixel: element (pixel, channel, example) of a group at
pixel * pixel stride + channel * GROUP + example. What a pixel of the output needs of a row of the input is then one run
of cache lines. Taps that fall on the padding are left out: each row and each column of pixels has its entry in a table
of taps. Arrays are `pointer`s, which are free to pass on.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.train_step.cpu.tiles import GROUP, PixelStrides, Strides, correlate, multiply, turn

STRIP = 16384  # floats of output gradients that pass through the caches together: 64 KiB
_SPREAD = 16  # floats between pixels of 1 KiB or a multiple, so that neighbours do not fall on the same cache sets


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
def forward_row(layer, i, taps, params, images, group, row, start):
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
    line = layer.width * layer.x_pixel
    strides = Strides(
        n_k=layer.channels,
        w_row=1,
        w_column=layer.row,
        w_i=layer.kernel_width * layer.row,
        w_j=layer.row,
        w_k=layer.kernel_height * layer.kernel_width * layer.row,
        x_column=layer.x_pixel,
        x_i=line,
        x_j=layer.x_pixel,
        y_column=layer.y_pixel,
    )
    at = 3 * (layer.forward_i + i)
    n_i, tap, position = taps[at], taps[at + 1], taps[at + 2]
    multiply(
        layer.outputs, strides, taps, layer.forward_j, layer.out_width, n_i, params, layer.weight + tap * strides.w_i,
        images, group + layer.x + position * line, params, layer.bias, row, start,
    )  # fmt: skip


@called
def backward_row(layer, i, taps, params, images, group, zeros, row, start):
    """Gradient with respect to one row of input pixels, from the gradient with respect to the output.

    Args:
        layer: the layer.
        i: the row.
        taps: the table of taps.
        params: the parameters.
        images: all images, where the layer's output has made place for its gradient.
        group: index of the group of examples in them.
        zeros: as many zeros as the layer has channels.
        row: where the result goes, pixel by pixel.
        start: index of its first pixel.
    """
    line, down = layer.out_width * layer.y_pixel, layer.kernel_width * layer.row
    strides = Strides(
        n_k=layer.outputs,
        w_row=layer.kernel_height * layer.kernel_width * layer.row,
        w_column=layer.row,
        w_i=layer.stride * down,
        w_j=layer.stride * layer.row,
        w_k=1,
        x_column=layer.y_pixel,
        x_i=-line,
        x_j=-layer.y_pixel,
        y_column=layer.x_pixel,
    )
    at = 3 * (layer.backward_i + i)
    n_i, tap, position = taps[at], taps[at + 1], taps[at + 2]
    multiply(
        layer.channels, strides, taps, layer.backward_j, layer.width, n_i, params, layer.weight + tap * down,
        images, group + layer.y + position * line, zeros, 0, row, start,
    )  # fmt: skip


@called
def _covered(tap, stride, padding, begin, end, size):
    """First and number of the output positions begin..end-1 that see the image through a tap, along one axis."""
    first = max(begin, (padding - tap + stride - 1) // stride)
    last = min(end - 1, (size - 1 + padding - tap) // stride)
    return first, max(0, last - first + 1)


@called
def add_weight_gradient(layer, images, group, turned, gradient):
    """Adds a group's part of the gradient of a convolution's weights.

    Args:
        layer: the layer.
        images: all images, where the layer's output has made place for its gradient.
        group: index of the group of examples in them.
        turned: scratch for a strip of gradients, examples by outputs.
        gradient: `[I, row]`.
    """
    line, example = layer.out_width * GROUP * layer.row, layer.row
    strides = PixelStrides(
        d_i=line,
        d_j=GROUP * layer.row,
        d_example=example,
        x_i=layer.stride * layer.width * layer.x_pixel,
        x_j=layer.stride * layer.x_pixel,
        g_input=layer.kernel_height * layer.kernel_width * layer.row,
    )
    strip = max(1, STRIP // line)
    for top in range(0, layer.out_height, strip):
        bottom = min(top + strip, layer.out_height)
        for pixel in range(top * layer.out_width, bottom * layer.out_width):
            to = (pixel - top * layer.out_width) * strides.d_j
            turn(images, group + layer.y + pixel * layer.y_pixel, layer.outputs, turned, to, layer.row)
        for tap_i in range(layer.kernel_height):
            i, n_i = _covered(tap_i, layer.stride, layer.padding, top, bottom, layer.height)
            for tap_j in range(layer.kernel_width):
                j, n_j = _covered(tap_j, layer.stride, layer.padding, 0, layer.out_width, layer.width)
                x_i, x_j = i * layer.stride - layer.padding + tap_i, j * layer.stride - layer.padding + tap_j
                x_at = group + layer.x + (x_i * layer.width + x_j) * layer.x_pixel
                d_at, tap = (i - top) * line + j * strides.d_j, (tap_i * layer.kernel_width + tap_j) * layer.row
                correlate(layer.channels, layer.row, strides, n_i, n_j, turned, d_at, images, x_at, gradient, tap)
