"""A convolution or dense layer of one member: forward pass, gradient of the input, gradient of the weights.

Activations of a layer are stored pixel by pixel, channel by channel, examples innermost: element (pixel, channel,
example) at pixel * stride + channel * batch + example, with the batch padded to whole vectors. A dense layer is a
convolution with a 1 x 1 kernel of an image of one pixel, whose channels are its inputs.
"""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from fastplast_kernels.conv_step.tiles import (
    MAX_INPUTS,
    MAX_OUTPUTS,
    MAX_ROWS,
    PixelStrides,
    Strides,
    correlate,
    multiply,
)

STRIP = 4096  # floats of output gradients that stay in the first-level cache while all inputs pass by


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


@njit(nogil=True, cache=True, error_model="numpy")
def taps(layer, position, size):
    """Which taps of the kernel fall on the image, along one axis, for one output position.

    Args:
        layer: the layer.
        position: of the output, along the axis.
        size: of the input, along the axis.

    Returns:
        The first tap and the number of taps.
    """
    first = max(0, layer.padding - position * layer.stride)
    return first, max(0, min(layer.kernel, size + layer.padding - position * layer.stride) - first)


@njit(nogil=True, cache=True, error_model="numpy")
def reached(layer, position, out_size):
    """Which taps carry one input position to an output, along one axis.

    Args:
        layer: the layer.
        position: of the input, along the axis.
        out_size: of the output, along the axis.

    Returns:
        The first tap, the number of taps (a stride apart) and the output position that the first tap reaches.
    """
    shifted = position + layer.padding
    first = max(0, shifted - layer.stride * (out_size - 1))
    first += (shifted - first) % layer.stride
    count = max(0, (min(layer.kernel - 1, shifted) - first) // layer.stride + 1)
    return first, count, (shifted - first) // layer.stride


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
def forward(layer, batch, params, values):
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
        layer.channels, layer.channels * area, layer.kernel, 1, area, line, layer.x_pixel, batch, batch
    )
    blocks = -(-layer.outputs // MAX_ROWS)
    for i in range(layer.out_height):
        tap_i, n_i = taps(layer, i, layer.height)
        x_i = layer.x + (i * layer.stride - layer.padding + tap_i) * line
        for j in range(layer.out_width):
            tap_j, n_j = taps(layer, j, layer.width)
            x_at = x_i + (j * layer.stride - layer.padding + tap_j) * layer.x_pixel
            w_at = layer.weight + tap_i * layer.kernel + tap_j
            y_at = layer.y + (i * layer.out_width + j) * layer.y_pixel
            for block in range(blocks):
                o, end = block * layer.outputs // blocks, (block + 1) * layer.outputs // blocks
                multiply(
                    end - o,
                    batch,
                    by,
                    n_i,
                    n_j,
                    params,
                    w_at + o * by.w_row,
                    values,
                    x_at,
                    params,
                    layer.bias + o,
                    values,
                    y_at + o * batch,
                )


@njit(nogil=True, cache=True, error_model="numpy")
def backward_input(layer, batch, params, values, zeros):
    """Gradient with respect to the input, from the gradient with respect to the output."""
    area = layer.kernel * layer.kernel
    line = layer.out_width * layer.y_pixel
    by = Strides(
        layer.outputs,
        area,
        layer.stride * layer.kernel,
        layer.stride,
        layer.channels * area,
        -line,
        -layer.y_pixel,
        batch,
        batch,
    )
    blocks = -(-layer.channels // MAX_ROWS)
    for block in range(blocks):
        c, end = block * layer.channels // blocks, (block + 1) * layer.channels // blocks
        for i in range(layer.height):
            tap_i, n_i, out_i = reached(layer, i, layer.out_height)
            for j in range(layer.width):
                tap_j, n_j, out_j = reached(layer, j, layer.out_width)
                multiply(
                    end - c,
                    batch,
                    by,
                    n_i,
                    n_j,
                    params,
                    layer.weight + tap_i * layer.kernel + tap_j + c * area,
                    values,
                    layer.y + out_i * line + out_j * layer.y_pixel,
                    zeros,
                    0,
                    values,
                    layer.x + (i * layer.width + j) * layer.x_pixel + c * batch,
                )


@njit(nogil=True, cache=True, error_model="numpy")
def weight_gradient(layer, batch, values, first, end, gradient):
    """Adds to the gradient of the weights of outputs first..end-1, in the order of the arena."""
    area = layer.kernel * layer.kernel
    row = layer.channels * area
    by = PixelStrides(
        batch,
        layer.out_width * layer.y_pixel,
        layer.y_pixel,
        layer.stride * layer.width * layer.x_pixel,
        layer.stride * layer.x_pixel,
        row,
        area,
    )
    o_blocks, c_blocks = -(-(end - first) // MAX_OUTPUTS), -(-layer.channels // MAX_INPUTS)
    strip = max(1, STRIP // ((end - first) * batch * layer.out_width))
    for top in range(0, layer.out_height, strip):
        for tap_i in range(layer.kernel):
            i, n_i = covered(layer, tap_i, top, min(top + strip, layer.out_height), layer.height)
            for tap_j in range(layer.kernel):
                j, n_j = covered(layer, tap_j, 0, layer.out_width, layer.width)
                x_i, x_j = i * layer.stride - layer.padding + tap_i, j * layer.stride - layer.padding + tap_j
                x_at = layer.x + (x_i * layer.width + x_j) * layer.x_pixel
                d_at = layer.y + i * by.d_i + j * by.d_j
                for c_block in range(c_blocks):
                    c, c_end = c_block * layer.channels // c_blocks, (c_block + 1) * layer.channels // c_blocks
                    for o_block in range(o_blocks):
                        o = first + o_block * (end - first) // o_blocks
                        o_end = first + (o_block + 1) * (end - first) // o_blocks
                        correlate(
                            o_end - o,
                            c_end - c,
                            by,
                            n_i,
                            n_j,
                            values,
                            d_at + o * batch,
                            values,
                            x_at + c * batch,
                            gradient,
                            (o - first) * row + c * area + tap_i * layer.kernel + tap_j,
                        )
