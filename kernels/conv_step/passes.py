"""The passes forward and backward of one convolutional member.

Convolutions work on groups of images, the dense layers above them on one row per example, as in `mlp_step`. On the way
back the gradient of a convolution's output takes the place of the output, which nobody needs any more by then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.conv_step.conv import (
    CRELU,
    Layer,
    activate_row,
    area_above,
    clear_unpooled,
    conv_backward_row,
    conv_bias_gradient,
    conv_forward_row,
    conv_weight_gradient,
    deinterleave,
    interleave,
    max_pool,
    times_derivative_row,
    unpool_row,
)
from fastplast_kernels.conv_step.modifications import (
    concatenated_relu_backward_row,
    concatenated_relu_row,
    drop,
    standard_row,
    standardise,
    standardise_backward,
    times_row,
)
from fastplast_kernels.conv_step.tiles import GROUP, integers, merged
from fastplast_kernels.mlp_step import step as dense
from fastplast_kernels.mlp_step.activations import times_derivative
from fastplast_kernels.mlp_step.dense import dense_backward_input
from fastplast_kernels.mlp_step.modifications import concatenated_relu_backward
from fastplast_kernels.mlp_step.simd import pointer
from fastplast_kernels.mlp_step.step import DROPOUT, OUTPUTS, SLOPE, WEIGHT, D, X, forward, gather, stride


class Network(NamedTuple):
    """A member's layers: rows of `Layer` for the convolutions, then the dense layers as `mlp_step` has them."""

    convolutions: np.ndarray
    factors: np.ndarray  # slope of the activation, c of the pull, rate of dropout
    taps: np.ndarray
    group: int  # floats of the images of a group
    dense: dense.Network
    gradient: int  # where the gradient of the images that the dense layers see lies in `Scratch.values`


class Scratch(NamedTuple):
    """One thread's memory: that of a multilayer perceptron, then that of the convolutions."""

    values: np.ndarray
    line: np.ndarray
    labels: np.ndarray
    coefficients: np.ndarray
    one: np.ndarray
    target: np.ndarray
    sorting: np.ndarray
    snapshot: np.ndarray
    inputs: np.ndarray  # of the minibatch, `[examples, I]`
    images: np.ndarray  # inputs and outputs of the convolutions, group by group
    row: np.ndarray  # of pixels
    lines: np.ndarray  # rows of pixels, as many as a pooling window has
    zeros: np.ndarray
    sums: np.ndarray  # over pixels, for `conv_bias_gradient` and normalisations
    weight_gradient: np.ndarray  # of one convolution
    bias_gradient: np.ndarray
    scale_gradient: np.ndarray
    shift_gradient: np.ndarray
    mask: np.ndarray  # of a group of examples, as `fill_mask` writes it


class Inputs(NamedTuple):
    """The part of a scratch that `gather` fills."""

    values: np.ndarray
    line: np.ndarray
    labels: np.ndarray


@called
def layer_of(network, i, row):
    """Convolution i of the member whose parameters begin at ``row``."""
    f = network.convolutions[i]
    return Layer(
        f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9],
        row + f[10], row + f[11], f[12], f[13], f[14], f[15], f[16], f[17], f[18], f[19], f[20], f[21],
        f[22], row + f[23], row + f[24], f[25], f[26], f[27], f[28],
    )  # fmt: skip


@called
def _groups(batch):
    return (batch + GROUP - 1) // GROUP


@called
def _fill_up(values, at, stride, batch, factor):
    """Fills a group of examples with the first times 1, so that all are finite if that one is, or times 0."""
    for b in range(batch, _groups(batch) * GROUP):
        for k in range(stride):
            values[at + b * stride + k] = values[at + k] if factor else np.float32(0.0)


@called
def _activate(layer, slope, row, images, at):
    """Writes the activations of a row to its place in the images."""
    if layer.activation == CRELU:
        concatenated_relu_row(layer, row, images, at)
    else:
        activate_row(layer.activation, slope, row, images, at, layer.out_width * layer.y_pixel)


@merged
def _convolve(network, params, row, scratch, group, stream, first):
    """Outputs of all convolutions for a group of examples, whose first is number ``first`` of the minibatch."""
    taps, params, images, pixels, zero = (
        integers(network.taps),
        pointer(params),
        pointer(scratch.images),
        pointer(scratch.row),
        np.int64(0),
    )
    for i in range(network.convolutions.shape[0]):
        layer, slope = layer_of(network, i, row), network.factors[i, SLOPE]
        line, normed = layer.out_width * layer.y_pixel, layer.standard >= 0
        for k in range(layer.out_height):
            to = images if normed else pixels
            conv_forward_row(
                layer, k, taps, params, images, group, to, group + layer.standard + k * line if normed else zero
            )
            if not normed:
                _activate(layer, slope, pixels, images, group + layer.y + k * line)
        if normed:
            standardise(layer, images, group, pointer(scratch.sums))
            for k in range(layer.out_height):
                standard_row(layer, k, params, images, group, pixels)
                _activate(layer, slope, pixels, images, group + layer.y + k * line)
        if layer.pool > 1:
            max_pool(layer, images, group)
        if layer.mask >= 0:
            drop(layer, network.factors[i, DROPOUT], stream, first, images, group, pointer(scratch.mask))


@called
def see(network, arena, examples, member, positions, stream, scratch):
    """Gathers a minibatch and runs the convolutions and dense layers; returns the number of examples.

    ``stream`` is that of the masks of dropout.
    """
    zero, row, inputs = np.int64(0), member * arena.size, stride(examples.scale.shape[0])
    first, last = layer_of(network, zero, zero), layer_of(network, network.convolutions.shape[0] - 1, zero)
    flat, images, values = pointer(scratch.inputs), pointer(scratch.images), pointer(scratch.values)
    batch = gather(examples, member, positions, Inputs(scratch.inputs, scratch.line, scratch.labels))
    _fill_up(flat, zero, inputs, batch, True)
    area, x = area_above(last), network.dense.layers[0, X]
    width = stride(last.above * area)
    for b in range(0, batch, GROUP):
        group = b // GROUP * network.group
        pixels = first.height * first.width
        interleave(flat, b * inputs, inputs, first.channels, pixels, images, group + first.x, first.x_pixel)
        _convolve(network, arena.params, row, scratch, group, stream, b)
        deinterleave(images, group + last.seen, last.y_pixel, last.above, area, values, x + b * width, width)
    forward(network.dense, arena.params, row, scratch.values, batch, stream)
    return batch


@called
def _to_outputs(network, i, k, gradients, at, images, group, scratch):
    """From the gradient of row k of what is seen of convolution i to that before the activation, in its place."""
    layer, slope, zero = layer_of(network, i, np.int64(0)), network.factors[i, SLOPE], np.int64(0)
    if layer.mask >= 0:
        seen = layer.out_width // layer.pool * layer.y_pixel
        times_row(gradients, at, images, group + layer.mask + k * seen, seen)
    row, start = gradients, at
    if layer.pool > 1:
        row, start = pointer(scratch.lines), zero
        unpool_row(layer, k, gradients, at, images, group, row)
    length = layer.pool * layer.out_width * layer.y_pixel
    place = group + layer.y + k * length
    if layer.activation == CRELU:
        concatenated_relu_backward_row(layer, row, start, images, place, layer.pool * layer.out_width)
    else:
        times_derivative_row(layer.activation, slope, row, start, images, place, length)
    if layer.pool > 1 and k == 0:
        clear_unpooled(layer, images, group)


@merged
def backward(network, i, arena, row, batch, scratch):
    """Gradients of a convolution: of its parameters, and that of its input, before the activation, in its place."""
    taps, params, images = integers(network.taps), pointer(arena.params), pointer(scratch.images)
    weight_gradient, bias_gradient = pointer(scratch.weight_gradient), pointer(scratch.bias_gradient)
    scale_gradient, shift_gradient = pointer(scratch.scale_gradient), pointer(scratch.shift_gradient)
    pixels, zeros, sums = pointer(scratch.row), pointer(scratch.zeros), pointer(scratch.sums)
    layer, zero = layer_of(network, i, row), np.int64(0)
    for k in range(layer.outputs * layer.channels * layer.kernel * layer.kernel):
        weight_gradient[k] = np.float32(0.0)
    for k in range(layer.outputs):
        bias_gradient[k] = scale_gradient[k] = shift_gradient[k] = np.float32(0.0)
    for group in range(0, _groups(batch) * network.group, network.group):
        if layer.standard >= 0:
            standardise_backward(layer, params, images, group, sums, scale_gradient, shift_gradient)
        conv_weight_gradient(layer, images, group, weight_gradient)
        conv_bias_gradient(layer, images, group, sums, bias_gradient)
        for k in range(layer.height if i > 0 else 0):
            conv_backward_row(layer, k, taps, params, images, group, zeros, pixels)
            _to_outputs(network, i - 1, k, pixels, zero, images, group, scratch)


@merged
def back_to_images(network, arena, row, batch, scratch):
    """The gradient of the first dense layer's inputs, in place of the last convolution's output."""
    first, at, images = network.dense.layers[0], network.gradient, pointer(scratch.images)
    i, values = network.convolutions.shape[0] - 1, pointer(scratch.values)
    layer = layer_of(network, i, row)
    area, line = area_above(layer), layer.out_width // layer.pool * layer.y_pixel
    inputs, width = layer.above * area, stride(layer.above * area)
    dense_backward_input(
        arena.params, row + first[WEIGHT], scratch.values, first[D], stride(first[OUTPUTS]),
        scratch.values, at, width, batch, inputs, first[OUTPUTS],
    )  # fmt: skip
    apart = layer.seen != layer.y
    if not apart and layer.activation == CRELU:
        concatenated_relu_backward(scratch.values, first[X], at, width, at, width, batch, layer.outputs * area)
    elif not apart:
        slope = network.factors[i, SLOPE]
        times_derivative(layer.activation, slope, scratch.values, first[X], scratch.values, at, batch * width)
    _fill_up(values, at, width, batch, False)
    channels = layer.above if apart else layer.outputs
    for b in range(0, batch, GROUP):
        group = b // GROUP * network.group
        place = group + layer.seen
        interleave(values, at + b * width, width, channels, area, images, place, layer.y_pixel)
        for k in range(layer.out_height // layer.pool if apart else 0):
            _to_outputs(network, i, k, images, place + k * line, images, group, scratch)
