"""The training step of one convolutional member, and the loop that gives members to threads.

Convolutions work on groups of images, the dense layers above them on one row per example, as in `mlp_step`. On the way
back the gradient of a convolution's output takes the place of the output, which nobody needs any more by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from fastplast_kernels.compilation import called, compiled
from fastplast_kernels.conv_step.conv import (
    Layer,
    activate_row,
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
from fastplast_kernels.conv_step.tiles import GROUP, integers, merged
from fastplast_kernels.mlp_step import step as dense
from fastplast_kernels.mlp_step.activations import times_derivative
from fastplast_kernels.mlp_step.dense import build_dense_update, dense_backward_input
from fastplast_kernels.mlp_step.evaluation import WHOLE
from fastplast_kernels.mlp_step.loss import softmax_cross_entropy
from fastplast_kernels.mlp_step.rules import (
    STRENGTH,
    WEIGHT_DECAY,
    adam,
    adam_coefficients,
    decay_coefficients,
    sgd,
    sgd_coefficients,
)
from fastplast_kernels.mlp_step.simd import pointer
from fastplast_kernels.mlp_step.step import _BAD_LOSS as BAD_LOSS
from fastplast_kernels.mlp_step.step import _BAD_UPDATE as BAD_UPDATE
from fastplast_kernels.mlp_step.step import _DONE as DONE
from fastplast_kernels.mlp_step.step import (
    OUTPUTS,
    PULL,
    SLOPE,
    SNAPSHOT_INTERVAL,
    WEIGHT,
    D,
    X,
    Y,
    _restore,
    _save,
    backward_input,
    forward,
    gather,
    stride,
)
from fastplast_kernels.wasserstein.cpu import rank_target
from fastplast_kernels.workers import flush_denormals, restore_denormals, take


class Network(NamedTuple):
    """A member's layers: rows of `Layer` for the convolutions, then the dense layers as `mlp_step` has them."""

    convolutions: np.ndarray
    factors: np.ndarray  # slope of the activation, c of the pull
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
    sums: np.ndarray  # for `conv_bias_gradient`
    weight_gradient: np.ndarray  # of one convolution
    bias_gradient: np.ndarray


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
    )  # fmt: skip


@called
def _area_above(layer):
    """Pixels of what the layer above sees."""
    return (layer.out_height // layer.pool) * (layer.out_width // layer.pool)


@called
def _groups(batch):
    return (batch + GROUP - 1) // GROUP


@called
def _fill_up(values, at, stride, batch, factor):
    """Fills a group of examples with the first times 1, so that all are finite if that one is, or times 0."""
    for b in range(batch, _groups(batch) * GROUP):
        for k in range(stride):
            values[at + b * stride + k] = values[at + k] if factor else np.float32(0.0)


@merged
def _convolve(network, params, row, scratch, group):
    """Outputs of all convolutions for a group of examples."""
    taps, params, images, pixels = (
        integers(network.taps),
        pointer(params),
        pointer(scratch.images),
        pointer(scratch.row),
    )
    for i in range(network.convolutions.shape[0]):
        layer = layer_of(network, i, row)
        line = layer.out_width * layer.y_pixel
        for k in range(layer.out_height):
            conv_forward_row(layer, k, taps, params, images, group, pixels)
            at = group + layer.y + k * line
            activate_row(layer.activation, network.factors[i, SLOPE], pixels, images, at, line)
        if layer.pool > 1:
            max_pool(layer, images, group)


@called
def see(network, arena, examples, member, positions, scratch):
    """Gathers a minibatch and runs the convolutions and dense layers; returns the number of examples."""
    zero, row, inputs = np.int64(0), member * arena.size, stride(examples.scale.shape[0])
    first, last = layer_of(network, zero, zero), layer_of(network, network.convolutions.shape[0] - 1, zero)
    flat, images, values = pointer(scratch.inputs), pointer(scratch.images), pointer(scratch.values)
    batch = gather(examples, member, positions, Inputs(scratch.inputs, scratch.line, scratch.labels))
    _fill_up(flat, zero, inputs, batch, True)
    area, x = _area_above(last), network.dense.layers[0, X]
    width = stride(last.outputs * area)
    for b in range(0, batch, GROUP):
        group = b // GROUP * network.group
        pixels = first.height * first.width
        interleave(flat, b * inputs, inputs, first.channels, pixels, images, group + first.x, first.x_pixel)
        _convolve(network, arena.params, row, scratch, group)
        deinterleave(images, group + last.pooled, last.y_pixel, last.outputs, area, values, x + b * width, width)
    forward(network.dense, arena.params, row, scratch.values, batch, WHOLE)
    return batch


@called
def _unpool(network, i, k, gradients, at, images, group, scratch):
    """From the gradient of row k of pooled pixels to that before the activation of convolution i, in its place."""
    lines, layer = pointer(scratch.lines), layer_of(network, i, np.int64(0))
    unpool_row(layer, k, gradients, at, images, group, lines)
    length = layer.pool * layer.out_width * layer.y_pixel
    place, slope = group + layer.y + k * length, network.factors[i, SLOPE]
    times_derivative_row(layer.activation, slope, lines, images, place, length)
    if k == 0:
        clear_unpooled(layer, images, group)


@merged
def _backward(network, i, arena, row, batch, scratch):
    """Gradients of a convolution: of weights and bias, and that of its input, before the activation, in its place."""
    taps, params, images = integers(network.taps), pointer(arena.params), pointer(scratch.images)
    weight_gradient, bias_gradient = pointer(scratch.weight_gradient), pointer(scratch.bias_gradient)
    pixels, zeros, sums = pointer(scratch.row), pointer(scratch.zeros), pointer(scratch.sums)
    layer, zero = layer_of(network, i, row), np.int64(0)
    line = layer.width * layer.x_pixel
    for k in range(layer.outputs * layer.channels * layer.kernel * layer.kernel):
        weight_gradient[k] = np.float32(0.0)
    for k in range(layer.outputs):
        bias_gradient[k] = np.float32(0.0)
    for group in range(0, _groups(batch) * network.group, network.group):
        conv_weight_gradient(layer, images, group, weight_gradient)
        conv_bias_gradient(layer, images, group, sums, bias_gradient)
        for k in range(layer.height if i > 0 else 0):
            conv_backward_row(layer, k, taps, params, images, group, zeros, pixels)
            if layer_of(network, i - 1, row).pool > 1:
                _unpool(network, i - 1, k, pixels, zero, images, group, scratch)
            else:
                code, slope = layer_of(network, i - 1, row).activation, network.factors[i - 1, SLOPE]
                times_derivative_row(code, slope, pixels, images, group + layer.x + k * line, line)


@merged
def _back_to_images(network, arena, row, batch, scratch):
    """The gradient of the first dense layer's inputs, in place of the last convolution's output."""
    first, at, images = network.dense.layers[0], network.gradient, pointer(scratch.images)
    i, values = network.convolutions.shape[0] - 1, pointer(scratch.values)
    layer = layer_of(network, i, row)
    area, line = _area_above(layer), layer.out_width // layer.pool * layer.y_pixel
    inputs, width = layer.outputs * area, stride(layer.outputs * area)
    dense_backward_input(
        arena.params, row + first[WEIGHT], scratch.values, first[D], stride(first[OUTPUTS]),
        scratch.values, at, width, batch, inputs, first[OUTPUTS],
    )  # fmt: skip
    if layer.pool == 1:
        slope = network.factors[i, SLOPE]
        times_derivative(layer.activation, slope, scratch.values, first[X], scratch.values, at, batch * width)
    _fill_up(values, at, width, batch, False)
    for b in range(0, batch, GROUP):
        group = b // GROUP * network.group
        place = group + layer.pooled
        interleave(values, at + b * width, width, layer.outputs, area, images, place, layer.y_pixel)
        for k in range(layer.out_height // layer.pool if layer.pool > 1 else 0):
            _unpool(network, i, k, images, place + k * line, images, group, scratch)


def _build_update(update: Callable) -> Callable:
    @called
    def update_convolution(network, i, arena, row, run, member, scratch, scale):
        """Updates weights and bias of a convolution from their gradients; returns the sums of |change|, its squares."""
        layer, c, one = layer_of(network, i, row), scratch.coefficients, scratch.one
        count = layer.outputs * layer.channels * layer.kernel**2
        strength = run.hyper[member, STRENGTH]
        anchor, target = arena.anchor, layer.weight
        if strength == 0.0:
            anchor = arena.params
        elif run.ranked[member]:
            quantiles = arena.anchor[layer.weight : layer.weight + count]
            weights = arena.params[layer.weight : layer.weight + count]
            rank_target(weights, quantiles, scratch.target[:count], scratch.sorting)
            anchor, target = scratch.target, 0
        pull = np.float32(2.0 * strength * network.factors[i, PULL] * scale)
        zero, single = np.int64(0), np.int64(1)  # not literals, for which the update would be compiled once more
        # To the dense update this is a layer [1, O] whose inputs are the gradients, and whose own gradient is 1.
        l1, l2 = update(
            arena.params, arena.m, arena.v, layer.weight, anchor, target, c, pull,
            scratch.weight_gradient, zero, zero, one, zero, zero, single, count, single,
        )  # fmt: skip
        bias_l1, bias_l2 = update(
            arena.params, arena.m, arena.v, layer.bias, arena.params, layer.bias, c, np.float32(0.0),
            scratch.bias_gradient, zero, zero, one, zero, zero, single, layer.outputs, single,
        )  # fmt: skip
        return l1 + bias_l1, l2 + bias_l2

    return update_convolution


def _build_trainer(rule: Callable, coefficients: Callable) -> Callable:
    plain, regularised = build_dense_update(rule, regularised=False), build_dense_update(rule, regularised=True)
    dense_plain, dense_regularised = dense._build_layer_update(plain), dense._build_layer_update(regularised)
    conv_plain, conv_regularised = _build_update(plain), _build_update(regularised)

    @merged
    def step(network, arena, examples, run, member, s, number, scratch):
        """One update of one member.

        Returns:
            Status, batch loss, misclassified fraction, sum of |change|, sum of its squares. Where the loss is not
            finite nothing has been changed; where the update is not, everything has.
        """
        row, tail = member * arena.size, network.dense
        batch = see(network, arena, examples, member, run.order[member, s], scratch)
        hyper, values = run.hyper[member], scratch.values
        scale = coefficients(hyper, number, scratch.coefficients)
        decay_coefficients(hyper, run.decoupled, scale, scratch.coefficients)
        top = tail.layers[tail.layers.shape[0] - 1]
        loss, errors = softmax_cross_entropy(
            values, top[Y], stride(top[OUTPUTS]), scratch.labels, values, top[D], batch, top[OUTPUTS], scale
        )
        loss /= batch
        if not math.isfinite(loss):
            return BAD_LOSS, 0.0, 0.0, 0.0, 0.0
        l1, l2 = 0.0, 0.0
        pulled = hyper[STRENGTH] != 0.0 or hyper[WEIGHT_DECAY] != 0.0
        for i in range(tail.layers.shape[0] - 1, -1, -1):
            if i > 0:
                backward_input(tail, i, arena.params, row, values, batch)
            else:
                _back_to_images(network, arena, row, batch, scratch)
            if pulled:
                sums = dense_regularised(tail, i, arena, row, run, member, scratch, scale, batch)
            else:
                sums = dense_plain(tail, i, arena, row, run, member, scratch, scale, batch)
            l1 += sums[0]
            l2 += sums[1]
        for i in range(network.convolutions.shape[0] - 1, -1, -1):
            _backward(network, i, arena, row, batch, scratch)
            if pulled:
                sums = conv_regularised(network, i, arena, row, run, member, scratch, scale)
            else:
                sums = conv_plain(network, i, arena, row, run, member, scratch, scale)
            l1 += sums[0]
            l2 += sums[1]
        return DONE if math.isfinite(l1) else BAD_UPDATE, loss, errors / batch, l1, l2

    @merged
    def train_member(network, arena, examples, run, member, count, scratch):
        start, end = run.steps[member], run.order.shape[1]
        s, saved, counted = 0, 0, 0
        while s < end:
            if s == counted and s % SNAPSHOT_INTERVAL == 0:
                saved = s
                _save(arena, member, scratch.snapshot)
            status, loss, error, l1, l2 = step(network, arena, examples, run, member, s, start + s + 1, scratch)
            if status != DONE:
                run.diverged[member] = start + s
                end = s
                if status == BAD_UPDATE:
                    _restore(arena, member, scratch.snapshot)
                    s = saved
                continue
            if s == counted:
                counted += 1
                run.steps[member] += 1
                run.sums[member, 0] += loss
                run.sums[member, 1] += error
                run.sums[member, 2] += l1 / count
                run.sums[member, 3] += math.sqrt(l2)
            s += 1

    @merged
    def train_members(network, arena, examples, run, count, counter, scratch):
        control = flush_denormals()
        member = take(counter)
        while member < run.order.shape[0]:
            if run.diverged[member] < 0:
                train_member(network, arena, examples, run, member, count, scratch)
            member = take(counter)
        restore_denormals(control)

    return train_members


_train_adam = _build_trainer(adam, adam_coefficients)
_train_sgd = _build_trainer(sgd, sgd_coefficients)


@compiled
def train_adam(network, arena, examples, run, count, counter, scratch):
    """Trains the members that no other thread takes, with Adam; `count` is the number of true parameters."""
    _train_adam(network, arena, examples, run, count, counter, scratch)


@compiled
def train_sgd(network, arena, examples, run, count, counter, scratch):
    """Trains the members that no other thread takes, with gradient descent; `arena.v` is `arena.m`."""
    _train_sgd(network, arena, examples, run, count, counter, scratch)
