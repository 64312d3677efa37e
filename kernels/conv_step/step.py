"""The training step of one convolutional member, and the loop that gives members to threads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from fastplast_kernels.compilation import called, compiled
from fastplast_kernels.conv_step.passes import back_to_images, backward, layer_of, see
from fastplast_kernels.conv_step.tiles import merged
from fastplast_kernels.dropout.cpu import Stream
from fastplast_kernels.mlp_step import step as dense
from fastplast_kernels.mlp_step.dense import build_dense_update
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
from fastplast_kernels.mlp_step.step import _BAD_LOSS as BAD_LOSS
from fastplast_kernels.mlp_step.step import _BAD_UPDATE as BAD_UPDATE
from fastplast_kernels.mlp_step.step import _DONE as DONE
from fastplast_kernels.mlp_step.step import (
    OUTPUTS,
    PULL,
    SCALE,
    SNAPSHOT_INTERVAL,
    D,
    Y,
    _restore,
    _save,
    backward_input,
    stride,
)
from fastplast_kernels.wasserstein.cpu import rank_target
from fastplast_kernels.workers import flush_denormals, restore_denormals, take


def _build_update(update: Callable) -> Callable:
    @called
    def update_vector(arena, at, gradient, scratch, count):
        zero, single = np.int64(0), np.int64(1)
        return update(
            arena.params, arena.m, arena.v, at, arena.params, at, scratch.coefficients, np.float32(0.0),
            gradient, zero, zero, scratch.one, zero, zero, single, count, single,
        )  # fmt: skip

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
        bias_l1, bias_l2 = update_vector(arena, layer.bias, scratch.bias_gradient, scratch, layer.outputs)
        l1, l2 = l1 + bias_l1, l2 + bias_l2
        if layer.standard >= 0:
            scale_l1, scale_l2 = update_vector(arena, layer.scale, scratch.scale_gradient, scratch, layer.outputs)
            shift_l1, shift_l2 = update_vector(arena, layer.shift, scratch.shift_gradient, scratch, layer.outputs)
            l1, l2 = l1 + scale_l1 + shift_l1, l2 + scale_l2 + shift_l2
        return l1, l2

    return update_convolution


def _build_trainer(rule: Callable, coefficients: Callable) -> Callable:
    plain, regularised = build_dense_update(rule, regularised=False), build_dense_update(rule, regularised=True)
    dense_plain, dense_regularised = dense._build_layer_update(plain), dense._build_layer_update(regularised)
    norm = dense._build_norm_update(regularised)  # without decay the same, and not worth compiling both
    conv_plain, conv_regularised = _build_update(plain), _build_update(regularised)

    @merged
    def step(network, arena, examples, run, member, s, number, scratch):
        """One update of one member.

        Returns:
            Status, batch loss, misclassified fraction, sum of |change|, sum of its squares. Where the loss is not
            finite nothing has been changed; where the update is not, everything has.
        """
        row, tail = member * arena.size, network.dense
        stream = Stream(run.keys[member, 0], run.keys[member, 1], number - 1)
        batch = see(network, arena, examples, member, run.order[member, s], stream, scratch)
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
            if tail.layers[i, SCALE] >= 0:
                sums = norm(tail, i, arena, row, scratch, batch)
                l1 += sums[0]
                l2 += sums[1]
            if i > 0:
                backward_input(tail, i, arena.params, row, values, batch)
            else:
                back_to_images(network, arena, row, batch, scratch)
            if pulled:
                sums = dense_regularised(tail, i, arena, row, run, member, scratch, scale, batch)
            else:
                sums = dense_plain(tail, i, arena, row, run, member, scratch, scale, batch)
            l1 += sums[0]
            l2 += sums[1]
        for i in range(network.convolutions.shape[0] - 1, -1, -1):
            backward(network, i, arena, row, batch, scratch)
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
