"""The training step of one member, and the loop that gives members to threads.

A member stays with its thread for all steps of a call, so its parameters and moments stay in the caches of one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from fastplast_kernels.compilation import called, compiled, merged
from fastplast_kernels.dropout.cpu import Stream
from fastplast_kernels.train_step.cpu.inputs import fetch_ahead, groups, stride
from fastplast_kernels.train_step.cpu.loss import softmax_cross_entropy
from fastplast_kernels.train_step.cpu.members import keep, ranked_targets, take_out
from fastplast_kernels.train_step.cpu.passes import backward, forward, gradients_of, replace_seen, take_minibatch
from fastplast_kernels.train_step.cpu.records import CONVOLUTION, PIXELS, PULL, State, inputs_of, layer_of
from fastplast_kernels.train_step.cpu.rules import (
    STRENGTH,
    WEIGHT_DECAY,
    adam,
    adam_coefficients,
    decay_coefficients,
    sgd,
    sgd_coefficients,
)
from fastplast_kernels.train_step.cpu.simd import pointer
from fastplast_kernels.train_step.cpu.tiles import GROUP
from fastplast_kernels.train_step.cpu.update import Factors, build_updates, pointers
from fastplast_kernels.workers import flush_denormals, restore_denormals, take

SNAPSHOT_INTERVAL = 256  # steps between copies of a member's state; see `_train_member`

_DONE, _BAD_LOSS, _BAD_UPDATE = range(3)


def _build_layer_update(rule: Callable, regularised: bool) -> Callable:
    of_gradient, of_product, of_nonzero = build_updates(rule, regularised)

    @merged
    def update_weights(layer, network, arena, state, run, member, sparse, scale, batch, scratch, number):
        """Updates a layer's matrix; returns the sums of |change| and of its squares."""
        moved, c, norms = pointers(state), scratch.coefficients, pointer(scratch.norms)
        row, inputs, zero = layer.row, inputs_of(layer), np.int64(0)
        strength = run.hyper[member, STRENGTH]
        anchor, target = pointer(state.anchor), layer.weight
        if strength == 0.0:
            anchor = pointer(state.params)
        elif run.ranked[member]:
            ranked_targets(layer, arena, member, state, scratch)
            anchor, target = pointer(scratch.pulled), zero
        pull = np.float32(2.0 * strength * network.factors[number, PULL] * scale)
        turned = pointer(scratch.turned)
        if layer.kind == CONVOLUTION:
            return of_gradient(
                moved, layer.weight, row, inputs, layer.outputs, anchor, target, c, pull, pointer(scratch.weights), zero
            )
        x = pointer(scratch.inputs)
        if layer.kind == PIXELS:
            if sparse:
                return of_nonzero(
                    moved, layer.weight, row, inputs, layer.outputs, anchor, target, c, pull, x, turned,
                    scratch.examples, scratch.alive, batch, norms,
                )  # fmt: skip
            width = stride(inputs)
            factors = Factors(zero, zero + 1, width, width * GROUP)
            return of_product(
                moved, layer.weight, row, inputs, layer.outputs, anchor, target, c, pull, x, factors, turned, batch,
                norms, True,
            )  # fmt: skip
        x, area, sums = pointer(scratch.images), layer.height, (0.0, 0.0)
        for channel in range(layer.channels if area > 1 else 1):
            apart, rows = (layer.x_pixel, area) if area > 1 else (zero + GROUP, layer.channels)
            factors = Factors(layer.x + channel * GROUP, apart, zero + 1, network.group)
            start = channel * area * row
            sums = of_product(
                moved, layer.weight + start, row, rows, layer.outputs, anchor, target + start, c, pull, x, factors,
                turned, batch, norms, channel == 0,
            )  # fmt: skip
        return sums

    @called
    def update_layer(network, number, arena, state, run, member, sparse, scale, batch, scratch):
        """Updates all parameters of a layer whose gradients are there; returns the sums of |change| and its squares."""
        layer, c = layer_of(network, number), scratch.coefficients
        l1, l2 = update_weights(layer, network, arena, state, run, member, sparse, scale, batch, scratch, number)
        moved, vectors = pointers(state), pointer(scratch.vectors)
        for k in range(3 if layer.standard >= 0 else 1):
            at = layer.bias if k == 0 else layer.shift if k == 1 else layer.scale
            sums = of_gradient(
                moved, at, layer.row, np.int64(1), layer.outputs, moved.params, at, c, np.float32(0.0), vectors,
                k * layer.row,
            )  # fmt: skip
            l1 += sums[0]
            l2 += sums[1]
        return l1, l2

    return update_layer


def _build_trainer(rule: Callable, coefficients: Callable) -> Callable:
    """The loop over members and steps with one optimiser.

    Args:
        rule: from `rules`.
        coefficients: of the rule.

    Returns:
        A function for kernels.
    """
    plain, regularised = (_build_layer_update(rule, regularised) for regularised in (False, True))

    @called
    def step(network, arena, state, examples, run, member, s, number, scratch):
        """One update of one member.

        Returns:
            Status, batch loss, misclassified fraction, sum of |change|, sum of its squares. Where the loss is not
            finite nothing has been changed; where the update is not, everything has.
        """
        batch = take_minibatch(network, examples, member, run.order[member, s], scratch)
        if s + 1 < run.order.shape[1]:
            fetch_ahead(examples, member, run.order[member, s + 1])
        stream = Stream(run.keys[member, 0], run.keys[member, 1], number - 1)
        forward(network, state.params, examples.sparse, batch, stream, scratch)
        hyper = run.hyper[member]
        scale = coefficients(hyper, number, scratch.coefficients)
        decay_coefficients(hyper, run.decoupled, scale, scratch.coefficients)
        last = network.layers.shape[0] - 1
        top = layer_of(network, last)
        loss, errors = 0.0, 0
        for first in range(0, groups(batch) * GROUP, GROUP):
            found = softmax_cross_entropy(
                pointer(scratch.images), first // GROUP * network.group + top.y, top.outputs, scratch.labels, first,
                min(GROUP, batch - first), np.float32(scale / batch), pointer(scratch.sums),
            )  # fmt: skip
            loss += found[0]
            errors += found[1]
        loss /= batch
        if not math.isfinite(loss):
            return _BAD_LOSS, 0.0, 0.0, 0.0, 0.0
        l1, l2 = 0.0, 0.0
        pulled = hyper[STRENGTH] != 0.0 or hyper[WEIGHT_DECAY] != 0.0
        for i in range(last, -1, -1):
            gradients_of(network, i, state.params, batch, scratch)
            if i > 0:
                backward(network, i, state.params, batch, scratch)
            if pulled:
                sums = regularised(network, i, arena, state, run, member, examples.sparse, scale, batch, scratch)
            else:
                sums = plain(network, i, arena, state, run, member, examples.sparse, scale, batch, scratch)
            if i > 0 and network.layers[i, 0] != CONVOLUTION:
                replace_seen(network, i, batch, scratch)
            l1 += sums[0]
            l2 += sums[1]
        return _DONE if math.isfinite(l1) else _BAD_UPDATE, loss, errors / batch, l1, l2

    @merged
    def train_member(network, arena, examples, run, member, count, scratch):
        """All steps of one member, or those before the one that diverges.

        A member is trained in the thread's own memory. Whether an update is finite is known only when it is done, and
        then its inputs are gone. So the state goes back to the arena every now and then, and a bad update is undone by
        doing the steps since once more, which gives the same bits. A member diverges once.
        """
        size = network.size
        m = scratch.state[size : 2 * size]
        v = m if run.momentum_only else scratch.state[2 * size : 3 * size]
        state = State(scratch.state[:size], m, v, scratch.state[3 * size :])
        start, end = run.steps[member], run.order.shape[1]
        s, saved, counted = 0, 0, 0
        take_out(network, arena, run, member, examples.sparse, scratch, state)
        while s < end:
            if s == counted and s == saved + SNAPSHOT_INTERVAL:
                saved = s
                keep(network, arena, run, member, state)
            status, loss, error, l1, l2 = step(network, arena, state, examples, run, member, s, start + s + 1, scratch)
            if status != _DONE:
                run.diverged[member] = start + s
                end = s
                if status == _BAD_UPDATE:
                    take_out(network, arena, run, member, examples.sparse, scratch, state)
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
        keep(network, arena, run, member, state)

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
