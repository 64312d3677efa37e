"""A convolution or dense layer of one member: forward pass, gradient of the input, gradient of the weights.

Activations of a layer are stored pixel by pixel, channel by channel, examples innermost: element (pixel, channel,
example) at pixel * stride + channel * GROUP + example, with the batch padded to whole vectors. A dense layer is a
convolution with a 1 x 1 kernel of an image of one pixel, whose channels are its inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from fastplast_kernels.conv_step.tiles import (
    GROUP,
    PixelStrides,
    Strides,
    correlate,
    multiply,
)

STRIP = 16384  # floats of output gradients that stay in the first-level cache while all inputs pass by


class Layer(NamedTuple):
    """A layer's shape, and where its parameters and activations lie."""

    channels: int
    height: int
    width: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    out_height: int
    out_width: int
    activated: int
    weight: int  # in the arena row
    bias: int
    x: int  # input, in the activations
    x_pixel: int  # floats from one pixel of the input to the next
    y: int
    y_pixel: int



def forward_columns(size, out_size, kernel, stride, padding):
    """For each output position along one axis: number of taps on the image, the first of them, the input under it."""
    table = np.zeros((out_size, 3), np.int64)
    for position in range(out_size):
        first = max(0, padding - position * stride)
        count = max(0, min(kernel, size + padding - position * stride) - first)
        table[position] = count, first, position * stride - padding + first
    return table


def backward_columns(size, out_size, kernel, stride, padding):
    """For each input position along one axis: number of taps to outputs, the first of them, the output under it."""
    table = np.zeros((size, 3), np.int64)
    for position in range(size):
        shifted = position + padding
        first = max(0, shifted - stride * (out_size - 1))
        first += (shifted - first) % stride
        count = max(0, (min(kernel - 1, shifted) - first) // stride + 1)
        table[position] = count, first, (shifted - first) // stride
    return table


@njit(nogil=True, cache=True, error_model="numpy")
def covered(layer, tap, begin, end, size):
    """Which outputs of begin..end-1 see the image through one tap, along one axis.

    Args:
        layer: the layer.
        tap: of the kernel, along the axis.
        begin: first output position.
        end: one past the last.
        size: of the input, along the axis.

    Returns:
        The first output position and the number of positions.
    """
    first = max(begin, (layer.padding - tap + layer.stride - 1) // layer.stride)
    last = min(end - 1, (size - 1 + layer.padding - tap) // layer.stride)
    return first, max(0, last - first + 1)


@njit(nogil=True, cache=True, error_model="numpy")
def forward(layer, rows, columns, params, values):
    """Outputs before the activation.

    Args:
        layer: the layer.
        batch: examples, padding included.
        params: the member's arena row.
        values: activations; the layer's input is read, its output written.
    """
    area = layer.kernel * layer.kernel
    line = layer.width * layer.x_pixel
    by = Strides(
        layer.channels,
        layer.channels * area,
        layer.kernel,
        1,
        area,
        layer.x_pixel,
        line,
        layer.x_pixel,
        GROUP,
        layer.y_pixel,
    )
    for i in range(layer.out_height):
        n_i, tap, position = rows[i, 0], rows[i, 1], rows[i, 2]
        w_at, x_at = layer.weight + tap * layer.kernel, layer.x + position * line
        y_at = layer.y + i * layer.out_width * layer.y_pixel
        multiply(
            layer.outputs, by, columns, n_i, params, w_at, values, x_at, params, layer.bias, values, y_at
        )


@njit(nogil=True, cache=True, error_model="numpy")
def backward_input(layer, rows, columns, params, values, zeros):
    """Gradient with respect to the input, from the gradient with respect to the output."""
    area = layer.kernel * layer.kernel
    line = layer.out_width * layer.y_pixel
    by = Strides(
        layer.outputs,
        area,
        layer.stride * layer.kernel,
        layer.stride,
        layer.channels * area,
        layer.y_pixel,
        -line,
        -layer.y_pixel,
        GROUP,
        layer.x_pixel,
    )
    for i in range(layer.height):
        n_i, tap, position = rows[i, 0], rows[i, 1], rows[i, 2]
        w_at, d_at = layer.weight + tap * layer.kernel, layer.y + position * line
        x_at = layer.x + i * layer.width * layer.x_pixel
        multiply(layer.channels, by, columns, n_i, params, w_at, values, d_at, zeros, 0, values, x_at)


@njit(nogil=True, cache=True, error_model="numpy")
def weight_gradient(layer, values, first, end, gradient):
    """Adds to the gradient of the weights of outputs first..end-1, in the order of the arena."""
    area = layer.kernel * layer.kernel
    row = layer.channels * area
    by = PixelStrides(
        layer.out_width * layer.y_pixel,
        layer.y_pixel,
        layer.stride * layer.width * layer.x_pixel,
        layer.stride * layer.x_pixel,
        row,
        area,
    )
    strip = max(1, STRIP // ((end - first) * GROUP * layer.out_width))
    for top in range(0, layer.out_height, strip):
        for tap_i in range(layer.kernel):
            i, n_i = covered(layer, tap_i, top, min(top + strip, layer.out_height), layer.height)
            for tap_j in range(layer.kernel):
                j, n_j = covered(layer, tap_j, 0, layer.out_width, layer.width)
                x_i, x_j = i * layer.stride - layer.padding + tap_i, j * layer.stride - layer.padding + tap_j
                x_at = layer.x + (x_i * layer.width + x_j) * layer.x_pixel
                d_at = layer.y + i * by.d_i + j * by.d_j + first * GROUP
                g_at = tap_i * layer.kernel + tap_j
                correlate(end - first, layer.channels, by, n_i, n_j, values, d_at, values, x_at, gradient, g_at)
