"""The update that protects useful weights, in place of the optimiser's: ``protect`` of ``train_step.actions``.

It needs the largest utility of the member before any weight moves, so the gradient is in memory. Two passes: the first
takes account of utilities, the second moves weights.
"""

from __future__ import annotations

import math

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.train_step.cpu.acting import counter_of, end_of, gradient_of, kept_of
from fastplast_kernels.train_step.cpu.activations import exp
from fastplast_kernels.train_step.cpu.records import CONVOLUTION, inputs_of, layer_of
from fastplast_kernels.train_step.cpu.rules import LEARNING_RATE, WEIGHT_DECAY
from fastplast_kernels.train_step.cpu.simd import (
    LANES,
    absolute,
    first_lanes,
    fma,
    lane_of,
    load,
    maximum,
    pointer,
    splat,
    sqrt,
    store,
    sum_lanes,
)
from fastplast_kernels.train_step.cpu.tuples import zeros

_DECAY, _NOISE, _OF_ALL, _LOCAL, _RAW = range(5)  # columns of the settings
_LEAST = 1e-12  # length of a row of utilities


@called
def _note_utilities(size, params, gradient, utilities, decay):
    """Takes account of a gradient; returns the largest utility.

    Zeros between rows count: where there are any, a row of the arena has some, too, of which the definition is.
    """
    kept, share, most = splat(decay), splat(np.float32(1.0) - decay), splat(np.float32(-np.inf))
    for k in range(0, size, LANES):
        saved = splat(0.0) - load(gradient, k) * load(params, k)  # what the loss would be more without the weight
        utility = fma(share, saved, kept * load(utilities, k))
        store(utilities, k, utility)
        most = maximum(most, utility)
    largest = np.float32(-np.inf)
    for lane in range(LANES):
        largest = max(largest, lane_of(most, lane))
    return largest


@called
def _set_lengths(utilities, begin, rows, row, correction, lengths):
    """Lengths of some rows of utilities for each output, and at least the least of corrected ones."""
    least = splat(np.float32(_LEAST * correction))
    for o in range(0, row, LANES):
        squares = splat(0.0)
        for k in range(begin + o, begin + o + rows * row, row):
            utility = load(utilities, k)
            squares = fma(utility, utility, squares)
        store(lengths, o, maximum(sqrt(squares), least))


@called
def _set_length(utilities, begin, row, correction, lengths):
    """The same of a vector of parameters, which is one row."""
    total = 0.0
    for k in range(begin, begin + row, LANES):
        utility = load(utilities, k)
        total += sum_lanes(utility * utility)
    _set_all(lengths, row, max(math.sqrt(total), _LEAST * correction))


@called
def _set_all(lengths, row, value):
    for o in range(0, row, LANES):
        store(lengths, o, splat(np.float32(value)))


@called
def _move(begin, rows, row, outputs, params, gradient, noise, utilities, lengths, kept, rate, size, is_of_all):
    """Moves some rows of weights; returns the sums of |change| and its squares."""
    sum_l1, sum_l2 = 0.0, 0.0
    keep, step, deviation = splat(kept), splat(rate), splat(size)
    for at in range(begin, begin + rows * row, row):
        l1, l2 = zeros(2)
        for o in range(0, row, LANES):
            g, w = load(gradient, at + o), load(params, at + o)
            free = splat(1.0) / (splat(1.0) + exp(load(utilities, at + o) / load(lengths, o)))
            g = fma(load(noise, at + o), deviation * free, g * free if is_of_all else g)
            new = fma(step, g, keep * w)
            store(params, at + o, new)
            moved = first_lanes(new - w, outputs - o)
            l1, l2 = l1 + absolute(moved), fma(moved, moved, l2)
        sum_l1 += sum_lanes(l1)
        sum_l2 += sum_lanes(l2)
    return sum_l1, sum_l2


@called
def protect(network, acting, hyper, member, made, params, scratch):
    """Makes an update whose gradient is in memory.

    Args:
        network: the network.
        acting: what is done.
        hyper: of the member.
        member: whose.
        made: updates of this call before it.
        params: of the member's ``State``.
        scratch: the thread's memory.

    Returns:
        The sums of |change| and of its squares.
    """
    settings, params, noise, lengths = acting.settings[member], pointer(params), pointer(scratch.held), scratch.norms
    gradient, utilities, lengths = gradient_of(network, scratch), kept_of(network, scratch), pointer(lengths)
    largest = _note_utilities(network.size, params, gradient, utilities, np.float32(settings[_DECAY]))
    correction = 1.0 - settings[_DECAY] ** (counter_of(acting, member)[0] + made + 1)
    length = abs(largest) if settings[_RAW] == 0.0 else abs(largest) * correction
    length, is_local = length if length > 0.0 else np.float64(np.inf), settings[_LOCAL] > 0.0
    kept = np.float32(1.0 - hyper[LEARNING_RATE] * hyper[WEIGHT_DECAY])
    rate, size, is_of_all = np.float32(-hyper[LEARNING_RATE]), np.float32(settings[_NOISE]), settings[_OF_ALL] > 0.0
    sum_l1, sum_l2 = 0.0, 0.0
    for i in range(network.layers.shape[0]):
        layer, end = layer_of(network, i), end_of(network, i)
        rows, row, matrix = inputs_of(layer), layer.row, layer.weight + inputs_of(layer) * layer.row
        if is_local and layer.kind == CONVOLUTION:
            rows = layer.kernel_width  # a row of the definition is one of a kernel
        _set_all(lengths, row, length)
        at = layer.weight
        while at < end:
            count = rows if at < matrix else np.int64(1)
            if is_local and at < matrix:
                _set_lengths(utilities, at, count, row, correction, lengths)
            elif is_local:
                _set_length(utilities, at, row, correction, lengths)
            l1, l2 = _move(
                at, count, row, layer.outputs, params, gradient, noise, utilities, lengths, kept, rate, size, is_of_all
            )
            sum_l1 += l1
            sum_l2 += l2
            at += count * row
    return sum_l1, sum_l2
