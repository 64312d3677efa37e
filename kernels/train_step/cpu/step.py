"""The training step of one member, and the loop that gives members to threads.

A member stays with its thread for all steps of a call, so its parameters and moments stay in the caches of one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from fastplast_kernels.compilation import compiled, merged
from fastplast_kernels.dropout.cpu import Stream
from fastplast_kernels.optimisers import EPSILON
from fastplast_kernels.train_step.cpu.acting import (
    NOISE,
    PROTECT,
    act,
    count_actions,
    draw,
    gradient_of,
    keep_held,
    noise_of,
    take_held,
)
from fastplast_kernels.train_step.cpu.births import (
    age_units,
    fill_powers,
    is_born_late,
    spread_ages,
    spread_columns,
)
from fastplast_kernels.train_step.cpu.inputs import fetch_ahead, groups
from fastplast_kernels.train_step.cpu.layer_updates import (
    build_layer_update,
    build_noisy_update,
    store_layer,
    sum_gradients,
)
from fastplast_kernels.train_step.cpu.loss import softmax_cross_entropy
from fastplast_kernels.train_step.cpu.members import keep, take_out
from fastplast_kernels.train_step.cpu.passes import backward, forward, gradients_of, replace_seen, take_minibatch
from fastplast_kernels.train_step.cpu.protecting import protect
from fastplast_kernels.train_step.cpu.records import CONVOLUTION, State, layer_of
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
    coefficients,
    decay_coefficients,
    sgd,
)
from fastplast_kernels.train_step.cpu.simd import pointer
from fastplast_kernels.train_step.cpu.tiles import GROUP, clear
from fastplast_kernels.train_step.cpu.update import pointers
from fastplast_kernels.train_step.cpu.watching import DECAY, GRADIENT, UTILITY, listens, look, note
from fastplast_kernels.workers import flush_denormals, restore_denormals, take

SNAPSHOT_INTERVAL = 256  # steps between copies of a member's state; see `_train_member`

_DONE, _BAD_LOSS, _BAD_UPDATE = range(3)


def _build_step(watches: bool) -> Callable:
    """One update of one member.

    Args:
        watches: whether units are watched, and methods act. Without, it costs nothing, not even to compile.

    Returns:
        A function for kernels.
    """
    plain, regularised = build_layer_update(adam, sgd, False), build_layer_update(adam, sgd, True)
    aged = build_layer_update(adam_by_age, None, True) if watches else None
    first_aged = build_layer_update(adam_by_column, None, False) if watches else None
    noisy = build_noisy_update(adam, sgd) if watches else None

    @merged
    def prepare_step(run, watch, acting, member, s, number, is_aged, batch, network, scratch):
        """Coefficients of an update; returns the scale of the gradient."""
        hyper, since = run.hyper[member], run.since[member]
        scale = coefficients(run.momentum_only, hyper, number - since, scratch.coefficients)
        decay_coefficients(hyper, run.decoupled, scale, scratch.coefficients)
        if watches and watch.kind[member] >= 0:
            look(network, watch, member, number, batch, scratch)
        if watches and acting.kind[member] >= 0:
            draw(network, acting, member, s, scratch)
        if watches and is_aged:
            born = watch.born[member]
            age_units(born, since, number, hyper[LEARNING_RATE], scratch.powers, scratch.aged)
            scratch.coefficients[EPSILON] = -hyper[EPSILON_COLUMN]
        return scale

    @merged
    def step(network, arena, state, examples, run, watch, acting, member, s, number, is_aged, scratch):
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
        scale = prepare_step(run, watch, acting, member, s, number, is_aged, batch, network, scratch)
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
            if watches and acting.kind[member] == NOISE:
                size, is_relative = noise_of(acting, member, s - run.begin[member])
                sums = noisy(network, i, moved, size, is_relative, run, sparse, scale, batch, scratch)
            elif watches and acting.kind[member] == PROTECT:
                store_layer(network, i, moved, gradient_of(network, scratch), sparse, scale, batch, scratch)
                sums = 0.0, 0.0
            elif watches and is_aged:
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
        if watches and acting.kind[member] == PROTECT:
            l1, l2 = protect(network, acting, run.hyper[member], member, s - run.begin[member], state.params, scratch)
        return _DONE if math.isfinite(l1) else _BAD_UPDATE, loss, errors / batch, l1, l2

    return step


def _build_trainer(watches: bool) -> Callable:
    """The loop over members and steps; arguments as of `_build_step`."""
    step = _build_step(watches)

    @merged
    def prepare_member(run, watch, member, scratch):
        """Tables of powers; returns whether weights of the member count updates of their own."""
        is_aged, hyper = False, run.hyper[member]
        if watches and watch.kind[member] == UTILITY:
            fill_powers(watch.settings[member, DECAY], scratch.powers[2])
        if watches and not run.momentum_only:
            is_aged = is_born_late(watch.born[member], run.since[member])
            if is_aged:
                fill_powers(hyper[BETA1], scratch.powers[0])
                fill_powers(hyper[BETA2], scratch.powers[1])
        return is_aged

    @merged
    def take_all(network, arena, examples, run, acting, member, scratch, state):
        if watches and acting.kind[member] >= 0:  # of a member with ranked targets there are numbers between rows
            clear(scratch.state, 0, 3 * network.size)
        take_out(network, arena, run, member, examples.sparse, scratch, state)
        if watches and acting.kind[member] >= 0:
            take_held(network, acting, member, scratch)

    @merged
    def keep_all(network, arena, run, acting, member, scratch, state):
        keep(network, arena, run, member, state)
        if watches and acting.kind[member] >= 0:
            keep_held(network, acting, member, scratch)

    @merged
    def train_member(network, arena, examples, run, watch, acting, member, count, scratch):
        """All steps of one member, or those before the one that diverges, or to one after which its method decides.

        A member is trained in the thread's own memory. Whether an update is finite is known only when it is done, and
        then its inputs are gone. So the state goes back to the arena every now and then, and a bad update is undone by
        doing the steps since once more, which gives the same bits. A member diverges once. An action that makes its
        parameters no numbers is undone likewise, and the update before it is kept.
        """
        size = network.size
        m = scratch.state[size : 2 * size]
        v = m if run.momentum_only else scratch.state[2 * size : 3 * size]
        state = State(scratch.state[:size], m, v, scratch.state[3 * size :])
        s, end = run.begin[member], run.end[member]
        saved, counted, before, spared = s, s, run.steps[member] - s, np.int64(-1)
        take_all(network, arena, examples, run, acting, member, scratch, state)
        is_aged = prepare_member(run, watch, member, scratch)
        while s < end:
            if s == counted and s == saved + SNAPSHOT_INTERVAL:
                saved = s
                keep_all(network, arena, run, acting, member, scratch, state)
            number = before + s + 1
            status, loss, error, l1, l2 = step(
                network, arena, state, examples, run, watch, acting, member, s, number, is_aged, scratch
            )
            if status != _DONE:
                run.diverged[member] = before + s
                end = s
                if status == _BAD_UPDATE:
                    take_all(network, arena, examples, run, acting, member, scratch, state)
                    s = saved
                continue
            is_new = s == counted
            if is_new:
                counted += 1
                run.steps[member] += 1
                sums = run.sums[member, s // run.part]
                sums[0] += 1.0
                sums[1] += loss
                sums[2] += error
                sums[3] += l1 / count
                sums[4] += math.sqrt(l2)
            made = s - run.begin[member]
            if (
                watches
                and acting.kind[member] >= 0
                and s != spared
                and not act(network, acting, member, number, made, state.params, scratch)
            ):
                run.diverged[member] = number
                end, spared = s + 1, s
                take_all(network, arena, examples, run, acting, member, scratch, state)
                s = saved
                continue
            if watches and is_new and watch.kind[member] >= 0:
                watch.due[member] = note(network, watch, member, number, state.params, scratch)
                end = s + 1 if watch.due[member] else end
            s += 1
        if watches and acting.kind[member] >= 0:
            count_actions(acting, member, end - run.begin[member])
        run.begin[member] = end
        keep_all(network, arena, run, acting, member, scratch, state)

    @merged
    def train_members(network, arena, examples, run, watch, acting, count, counter, scratch):
        control = flush_denormals()
        member = take(counter)
        while member < run.order.shape[0]:
            if run.diverged[member] < 0 and run.begin[member] < run.end[member]:
                train_member(network, arena, examples, run, watch, acting, member, count, scratch)
            member = take(counter)
        restore_denormals(control)

    return train_members


_train, _watch = _build_trainer(watches=False), _build_trainer(watches=True)


@compiled
def train(network, arena, examples, run, watch, acting, count, counter, scratch):
    """Trains the members that no other thread takes; `count` is the number of true parameters."""
    _train(network, arena, examples, run, watch, acting, count, counter, scratch)


@compiled
def watch(network, arena, examples, run, watch, acting, count, counter, scratch):
    """As `train`, and watches units and does what methods do; a member without any has the same bits."""
    _watch(network, arena, examples, run, watch, acting, count, counter, scratch)
