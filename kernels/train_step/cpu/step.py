"""The training step of one member, and the loop that gives members to threads.

A member stays with its thread for all steps of a call, so its parameters and moments stay in the caches of one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from fastplast_kernels.compilation import called, compiled, merged
from fastplast_kernels.dropout.cpu import Stream
from fastplast_kernels.optimisers import EPSILON
from fastplast_kernels.train_step.cpu.births import (
    age_units,
    fill_powers,
    from_row,
    is_born_late,
    of_vectors,
    spread_ages,
    spread_columns,
)
from fastplast_kernels.train_step.cpu.inputs import fetch_ahead, groups, stride
from fastplast_kernels.train_step.cpu.loss import softmax_cross_entropy
from fastplast_kernels.train_step.cpu.members import keep, ranked_targets, take_out
from fastplast_kernels.train_step.cpu.passes import backward, forward, gradients_of, replace_seen, take_minibatch
from fastplast_kernels.train_step.cpu.records import CONVOLUTION, PIXELS, PULL, State, inputs_of, layer_of
from fastplast_kernels.train_step.cpu.rules import (
    BETA1,
    BETA2,
    EPSILON_COLUMN,
    LEARNING_RATE,
    STRENGTH,
    WEIGHT_DECAY,
    adam,
    adam_by_age,
    adam_by_column,
    adam_coefficients,
    decay_coefficients,
    sgd,
    sgd_coefficients,
)
from fastplast_kernels.train_step.cpu.simd import pointer
from fastplast_kernels.train_step.cpu.tiles import GROUP
from fastplast_kernels.train_step.cpu.update import Factors, build_magnitudes, build_updates, pointers
from fastplast_kernels.train_step.cpu.watching import (
    DECAY,
    GRADIENT,
    UTILITY,
    keep_magnitudes,
    listens,
    look,
    note,
    sum_magnitudes,
)
from fastplast_kernels.workers import flush_denormals, restore_denormals, take

SNAPSHOT_INTERVAL = 256  # steps between copies of a member's state; see `_train_member`

_DONE, _BAD_LOSS, _BAD_UPDATE = range(3)


def _build_products(of_product: Callable) -> Callable:
    @merged
    def products(network, layer, moved, anchor, target, c, pull, batch, scratch):
        """Updates the matrix of a dense layer, from all of its inputs."""
        norms, turned, row, zero = pointer(scratch.norms), pointer(scratch.turned), layer.row, np.int64(0)
        if layer.kind == PIXELS:
            width, inputs = stride(inputs_of(layer)), inputs_of(layer)
            factors = Factors(zero, zero + 1, width, width * GROUP)
            return of_product(
                moved, layer.weight, row, inputs, layer.outputs, anchor, target, c, pull, pointer(scratch.inputs),
                factors, turned, batch, norms, True,
            )  # fmt: skip
        x, area, sums = pointer(scratch.images), layer.height, (0.0, 0.0)
        for channel in range(layer.channels if area > 1 else 1):
            apart, rows = (layer.x_pixel, area) if area > 1 else (zero + GROUP, layer.channels)
            factors = Factors(layer.x + channel * GROUP, apart, zero + 1, network.group)
            start = channel * area
            sums = of_product(
                from_row(moved, start), layer.weight + start * row, row, rows, layer.outputs, anchor,
                target + start * row, c, pull, x, factors, turned, batch, norms, channel == 0,
            )  # fmt: skip
        return sums

    return products


def _build_layer_update(rule: Callable, regularised: bool) -> Callable:
    """The update of a layer.

    Args:
        rule: from `rules`.
        regularised: whether there may be weight decay or a pull.

    Returns:
        A function for kernels.
    """
    of_gradient, of_product, of_nonzero = build_updates(rule, regularised)
    products = _build_products(of_product)

    @merged
    def update_weights(layer, network, arena, state, moved, run, member, sparse, scale, batch, scratch, number):
        """Updates a layer's matrix; returns the sums of |change| and of its squares."""
        c, zero, strength = scratch.coefficients, np.int64(0), run.hyper[member, STRENGTH]
        anchor, target = pointer(state.anchor), layer.weight
        if strength == 0.0:
            anchor = pointer(state.params)
        elif run.ranked[member]:
            ranked_targets(layer, arena, member, state, scratch)
            anchor, target = pointer(scratch.pulled), zero
        pull = np.float32(2.0 * strength * network.factors[number, PULL] * scale)
        if layer.kind == CONVOLUTION:
            return of_gradient(
                moved, layer.weight, layer.row, inputs_of(layer), layer.outputs, anchor, target, c, pull,
                pointer(scratch.weights), zero,
            )  # fmt: skip
        if layer.kind == PIXELS and sparse:
            return of_nonzero(
                moved, layer.weight, layer.row, inputs_of(layer), layer.outputs, anchor, target, c, pull,
                pointer(scratch.inputs), pointer(scratch.turned), scratch.examples, scratch.alive, batch,
                pointer(scratch.norms),
            )  # fmt: skip
        return products(network, layer, moved, anchor, target, c, pull, batch, scratch)

    @called
    def update_layer(network, number, arena, state, moved, run, member, sparse, scale, batch, scratch):
        """Updates all parameters of a layer whose gradients are there; returns the sums of |change| and its squares.

        Vectors follow the births of outputs only: their row is the member by itself.
        """
        layer, c = layer_of(network, number), scratch.coefficients
        l1, l2 = update_weights(layer, network, arena, state, moved, run, member, sparse, scale, batch, scratch, number)
        vectors, moved = pointer(scratch.vectors), of_vectors(moved)
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


def _build_step(
    rule: Callable, coefficients: Callable, by_age: Sequence[Callable] = (), watches: bool = False
) -> Callable:
    """One update of one member with one optimiser.

    Args:
        rule: from `rules`.
        coefficients: of the rule.
        by_age: rules where weights count updates of their own: of rows and columns, of columns only. Empty for none.
        watches: whether units are watched. Without, it costs nothing, not even to compile.

    Returns:
        A function for kernels.
    """
    plain, regularised = (_build_layer_update(rule, regularised) for regularised in (False, True))
    counts = watches and len(by_age) > 0
    aged = _build_layer_update(by_age[0], True) if counts else None
    first_aged = _build_layer_update(by_age[1], False) if counts else None
    magnitudes = _build_products(build_magnitudes()) if watches else None

    @merged
    def sum_gradients(network, number, moved, scale, batch, scratch):
        """Keeps mean |gradient| of the units of a layer whose gradients are there."""
        layer, norms = layer_of(network, number), pointer(scratch.norms)
        if layer.kind == CONVOLUTION:
            sum_magnitudes(pointer(scratch.weights), np.int64(0), inputs_of(layer), layer.row, norms)
        else:
            c, at = scratch.coefficients, layer.weight
            magnitudes(network, layer, moved, moved.params, at, c, np.float32(0.0), batch, scratch)
        keep_magnitudes(network, number, norms, scale, scratch)

    @merged
    def prepare_step(run, watch, member, number, is_aged, batch, network, scratch):
        """Coefficients of an update; returns the scale of the gradient."""
        hyper, since = run.hyper[member], run.since[member]
        scale = coefficients(hyper, number - since, scratch.coefficients)
        decay_coefficients(hyper, run.decoupled, scale, scratch.coefficients)
        if watches and watch.kind[member] >= 0:
            look(network, watch, member, number, batch, scratch)
        if counts and is_aged:
            born = watch.born[member]
            age_units(born, since, number, hyper[LEARNING_RATE], scratch.powers, scratch.aged)
            scratch.coefficients[EPSILON] = -hyper[EPSILON_COLUMN]
        return scale

    @called
    def step(network, arena, state, examples, run, watch, member, s, number, is_aged, scratch):
        """One update of one member.

        Returns:
            Status, batch loss, misclassified fraction, sum of |change|, sum of its squares. Where the loss is not
            finite nothing has been changed; where the update is not, everything has.
        """
        batch = take_minibatch(network, examples, member, run.order[member, s], scratch)
        if s + 1 < run.end[member]:
            fetch_ahead(examples, member, run.order[member, s + 1])
        stream = Stream(run.keys[member, 0], run.keys[member, 1], number - 1)
        forward(network, state.params, examples.sparse, batch, stream, scratch)
        scale = prepare_step(run, watch, member, number, is_aged, batch, network, scratch)
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
        l1, l2, sparse = 0.0, 0.0, examples.sparse
        pulled = run.hyper[member, STRENGTH] != 0.0 or run.hyper[member, WEIGHT_DECAY] != 0.0
        moved, below = pointers(state, scratch.births), np.int64(watch.born.shape[2])
        for i in range(last, -1, -1):
            gradients_of(network, i, state.params, batch, scratch)
            if i > 0:
                backward(network, i, state.params, batch, scratch)
            if watches and i < last and watch.kind[member] == GRADIENT and listens(watch, member, number):
                sum_gradients(network, i, moved, scale, batch, scratch)
            if counts and is_aged:
                layer, births, own = layer_of(network, i), pointer(scratch.births), below if i < last else np.int64(-1)
                units_below = layer_of(network, max(i - 1, 0)).outputs
                below = below - units_below if i > 0 else np.int64(-1)
                if i == 0 and not pulled:  # most weights of a perceptron, whose rows are no units
                    epsilon = scratch.coefficients[EPSILON]
                    by_births = spread_columns(layer, own, scratch.aged, epsilon, moved, births)
                    sums = first_aged(network, i, arena, state, by_births, run, member, sparse, scale, batch, scratch)
                else:
                    by_births = spread_ages(layer, own, below, units_below, scratch.aged, moved, births)
                    sums = aged(network, i, arena, state, by_births, run, member, sparse, scale, batch, scratch)
            elif pulled:
                sums = regularised(network, i, arena, state, moved, run, member, sparse, scale, batch, scratch)
            else:
                sums = plain(network, i, arena, state, moved, run, member, sparse, scale, batch, scratch)
            if i > 0 and network.layers[i, 0] != CONVOLUTION:
                replace_seen(network, i, batch, scratch)
            l1 += sums[0]
            l2 += sums[1]
        return _DONE if math.isfinite(l1) else _BAD_UPDATE, loss, errors / batch, l1, l2

    return step


def _build_trainer(
    rule: Callable, coefficients: Callable, by_age: Sequence[Callable] = (), watches: bool = False
) -> Callable:
    """The loop over members and steps with one optimiser; arguments as of `_build_step`."""
    step = _build_step(rule, coefficients, by_age, watches)
    counts = watches and len(by_age) > 0

    @merged
    def prepare_member(run, watch, member, scratch):
        """Tables of powers; returns whether weights of the member count updates of their own."""
        is_aged, hyper = False, run.hyper[member]
        if watches and watch.kind[member] == UTILITY:
            fill_powers(watch.settings[member, DECAY], scratch.powers[2])
        if counts:
            is_aged = is_born_late(watch.born[member], run.since[member])
            if is_aged:
                fill_powers(hyper[BETA1], scratch.powers[0])
                fill_powers(hyper[BETA2], scratch.powers[1])
        return is_aged

    @merged
    def train_member(network, arena, examples, run, watch, member, count, scratch):
        """All steps of one member, or those before the one that diverges, or to one after which its method decides.

        A member is trained in the thread's own memory. Whether an update is finite is known only when it is done, and
        then its inputs are gone. So the state goes back to the arena every now and then, and a bad update is undone by
        doing the steps since once more, which gives the same bits. A member diverges once.
        """
        size = network.size
        m = scratch.state[size : 2 * size]
        v = m if run.momentum_only else scratch.state[2 * size : 3 * size]
        state = State(scratch.state[:size], m, v, scratch.state[3 * size :])
        s, end = run.begin[member], run.end[member]
        saved, counted, before = s, s, run.steps[member] - s
        take_out(network, arena, run, member, examples.sparse, scratch, state)
        is_aged = prepare_member(run, watch, member, scratch)
        while s < end:
            if s == counted and s == saved + SNAPSHOT_INTERVAL:
                saved = s
                keep(network, arena, run, member, state)
            number = before + s + 1
            status, loss, error, l1, l2 = step(
                network, arena, state, examples, run, watch, member, s, number, is_aged, scratch
            )
            if status != _DONE:
                run.diverged[member] = before + s
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
                if watches and watch.kind[member] >= 0:
                    watch.due[member] = note(network, watch, member, number, state.params, scratch)
                    end = s + 1 if watch.due[member] else end
            s += 1
        run.begin[member] = end
        keep(network, arena, run, member, state)

    @merged
    def train_members(network, arena, examples, run, watch, count, counter, scratch):
        control = flush_denormals()
        member = take(counter)
        while member < run.order.shape[0]:
            if run.diverged[member] < 0 and run.begin[member] < run.end[member]:
                train_member(network, arena, examples, run, watch, member, count, scratch)
            member = take(counter)
        restore_denormals(control)

    return train_members


_train_adam = _build_trainer(adam, adam_coefficients)
_train_sgd = _build_trainer(sgd, sgd_coefficients)
_watch_adam = _build_trainer(adam, adam_coefficients, (adam_by_age, adam_by_column), watches=True)
_watch_sgd = _build_trainer(sgd, sgd_coefficients, watches=True)


@compiled
def train_adam(network, arena, examples, run, watch, count, counter, scratch):
    """Trains the members that no other thread takes, with Adam; `count` is the number of true parameters."""
    _train_adam(network, arena, examples, run, watch, count, counter, scratch)


@compiled
def train_sgd(network, arena, examples, run, watch, count, counter, scratch):
    """Trains the members that no other thread takes, with gradient descent; `arena.v` is `arena.m`."""
    _train_sgd(network, arena, examples, run, watch, count, counter, scratch)


@compiled
def watch_adam(network, arena, examples, run, watch, count, counter, scratch):
    """As `train_adam`, and watches units; the bits are the same."""
    _watch_adam(network, arena, examples, run, watch, count, counter, scratch)


@compiled
def watch_sgd(network, arena, examples, run, watch, count, counter, scratch):
    """As `train_sgd`, and watches units; the bits are the same."""
    _watch_sgd(network, arena, examples, run, watch, count, counter, scratch)
