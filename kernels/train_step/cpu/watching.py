"""What is watched about hidden units, as ``train_step.units`` says: looked at within an update, noted after it.

Activations are there after the forward pass only, and weights are to be those after the update, which may not be done.
So numbers of the minibatch wait in a thread's memory until the update is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.train_step.cpu.births import power
from fastplast_kernels.train_step.cpu.modifications import add_sums, largest_of_window
from fastplast_kernels.train_step.cpu.records import CONVOLUTION, DENSE, area_above, inputs_of, layer_of
from fastplast_kernels.train_step.cpu.simd import (
    LANES,
    absolute,
    first_lanes,
    load,
    maximum,
    numbers_at,
    pointer,
    splat,
    store,
)
from fastplast_kernels.train_step.cpu.tiles import GROUP, clear
from fastplast_kernels.train_step.cpu.tuples import (
    absolute_rows,
    fma_outer,
    load_rows,
    store_rows,
    sum_rows,
    zeros,
)
from fastplast_kernels.train_step.units import KINDS
from numba.core import types

UTILITY, _ACTIVATION, _SILENCE, GRADIENT = map(list(KINDS).index, ("utility", "activation", "silence", "gradient"))
# Columns of the settings, and parts of a layer, by kind.
DECAY, _MATURITY, _RATE, _OF_ALL, _BY_OUTGOING, _BY_ACTIVATION, _BY_INCOMING = range(7)
_EVERY, _BATCHES = range(2)
_LENGTHS = 0
_AGE, _UTILITIES, _MEAN, _OWED = range(4)
_SUM = 0
_SILENT, _THRESHOLD, _PAST = range(3)

_floats64, _integers64, _integers32 = numbers_at(types.float64), numbers_at(types.int64), numbers_at(types.int32)


@called
def positions_of(layer, after):
    """Inputs of the next layer that are one channel: its pixels, where a dense layer follows a convolution."""
    return area_above(layer) if layer.kind == CONVOLUTION and after.kind == DENSE else 1


@called
def listens(watch, member, number):
    """Whether activations, or gradients, of update ``number`` are added up for a member that does so."""
    every = int(watch.settings[member, _EVERY])
    return (-number) % every < watch.settings[member, _BATCHES]


@called
def _sum_channels(layer, pool, images, apart, batch, begin, end, centres, step, size, fires, sums, found):
    """Of each channel over the examples and pixels begin..end-1: the sum of h, or of |h - centre|.

    Args:
        layer: the layer.
        pool: side of the windows whose maximum counts; 1 for none.
        images: all images.
        apart: floats from one group of examples to the next.
        batch: examples.
        begin: first pixel.
        end: after the last.
        centres: of the channels.
        step: from the centre of a channel to the next; 0 where one number, 0, is that of all.
        size: whether |h - centre| is summed.
        fires: whether only the largest h of each lane, at least 0, is summed: that is positive where any is.
        sums: scratch.
        found: the result, in whole vectors.
    """
    width, length = layer.out_width // pool, layer.above * GROUP
    clear(sums, 0, length)
    for first in range(0, batch, GROUP):
        for p in range(begin, end):
            pixel = pool * (p // width * layer.out_width + p % width) * layer.y_pixel
            at = first // GROUP * apart + layer.y + pixel
            for k in range(0, length, LANES):
                h = largest_of_window(images, at + k, layer.out_width * layer.y_pixel, layer.y_pixel, pool)
                if size:
                    h = absolute(h - splat(centres[k // GROUP * step]))
                h, total = first_lanes(h, batch - first), load(sums, k)
                store(sums, k, maximum(total, h) if fires else total + h)
    clear(found, 0, layer.above)
    add_sums(sums, 0, layer.above, found, 0)


@called
def _look_at_inputs(layer, after, state, settings, powers, images, apart, batch, at, scratch, means, sizes):
    """Means of the next layer's inputs, and their distances from the running ones, or their sizes."""
    positions, pixels = positions_of(layer, after), area_above(layer)
    sums, found = pointer(scratch.sums), pointer(scratch.found)
    centres = pointer(scratch.found[scratch.found.shape[0] // 2 :])
    ages, running = state
    decay, centred = settings[DECAY], settings[_BY_ACTIVATION] == 2.0
    step = np.int64(1 if centred else 0)
    share = 1.0 / (batch * (pixels // positions))
    centres[0] = np.float32(0.0)
    for p in range(positions):
        begin, end = (p, p + 1) if positions > 1 else (np.int64(0), pixels)
        _sum_channels(
            layer, layer.pool, images, apart, batch, begin, end, centres, step, False, False, sums, found
        )  # fmt: skip
        for channel in range(layer.above):
            k = channel * positions + p
            means[at + k] = decay * running[k] + (1.0 - decay) * (found[channel] * share)
        if centred:
            for first in range(0, layer.above, layer.outputs):
                for unit in range(layer.outputs):
                    mean = means[at + (first + unit) * positions + p]
                    centres[first + unit] = np.float32(mean / (1.0 - power(powers, ages[unit] + 1)))
        if settings[_BY_ACTIVATION] > 0.0:
            _sum_channels(
                layer, layer.pool, images, apart, batch, begin, end, centres, step, True, False, sums, found
            )  # fmt: skip
            for channel in range(layer.above):
                sizes[at + channel * positions + p] = found[channel] * share


@called
def _look_at_units(layer, images, apart, batch, fires, scratch, sizes, at):
    """Mean |h| of units, or whether they fire."""
    sums, found, pixels = pointer(scratch.sums), pointer(scratch.found), layer.out_height * layer.out_width
    centres = pointer(scratch.found[scratch.found.shape[0] // 2 :])
    centres[0] = np.float32(0.0)
    one, none = np.int64(1), np.int64(0)
    _sum_channels(layer, one, images, apart, batch, none, pixels, centres, none, not fires, fires, sums, found)
    if fires:
        for unit in range(layer.outputs):
            sizes[at + unit] = found[unit]
        return
    share = 1.0 / (batch * pixels * (layer.above // layer.outputs))
    for unit in range(layer.outputs):
        total = 0.0
        for channel in range(unit, layer.above, layer.outputs):
            total += found[channel]
        sizes[at + unit] = total * share


@called
def look(network, watch, member, number, batch, scratch):
    """Finds what is to be noted of activations, after the forward pass of update ``number``."""
    kind, row, at = watch.kind[member], watch.row[member], 0
    if kind == GRADIENT or (kind == _ACTIVATION and not listens(watch, member, number)):
        return
    images, apart = pointer(scratch.images), network.group
    for i in range(network.layers.shape[0] - 1):
        layer, after, parts = layer_of(network, i), layer_of(network, i + 1), watch.parts[kind, i]
        inputs = layer.above * positions_of(layer, after)
        if kind == UTILITY:
            ages = _integers64(parts[_AGE] + 8 * row * layer.outputs)
            means = _floats64(parts[_MEAN] + 8 * row * inputs)
            _look_at_inputs(
                layer, after, (ages, means), watch.settings[member], pointer(scratch.powers[2]), images, apart, batch,
                at, scratch, pointer(scratch.means), pointer(scratch.sizes),
            )  # fmt: skip
        else:
            _look_at_units(layer, images, apart, batch, kind == _SILENCE, scratch, scratch.sizes, at)
        at += inputs


def _add_magnitudes(count: int) -> Callable:
    @called
    def add(begin, end, values, at, rows, row, found):
        for o in range(begin, end, count * LANES):
            sums = zeros(count)
            for k in range(at + o, at + o + rows * row, row):
                sums = fma_outer(sums, (splat(1.0),), absolute_rows(load_rows(values, k, LANES, count)))
            store_rows(found, o, LANES, sums)

    return add


_of_four, _of_one = _add_magnitudes(4), _add_magnitudes(1)


@called
def sum_magnitudes(values, at, rows, row, found):
    """Sums of |x| over the rows of a matrix, for each column."""
    whole = row - row % (4 * LANES)
    _of_four(np.int64(0), whole, values, at, rows, row, found)
    _of_one(whole, row, values, at, rows, row, found)


@called
def _mean_outgoing(layer, params, sums, found):
    """Mean |w| of the weights that go out of each channel of a layer's input."""
    params, taps, inputs = pointer(params), layer.kernel_height * layer.kernel_width, inputs_of(layer)
    for first in range(0, inputs, LANES):
        clear(sums, 0, LANES * LANES)
        for i in range(first, min(first + LANES, inputs)):
            at, total = layer.weight + i * layer.row, splat(0.0)
            for o in range(0, layer.outputs, LANES):
                total = total + absolute(first_lanes(load(params, at + o), layer.outputs - o))
            store(sums, (i - first) * LANES, total)
        store(found, first, sum_rows(load_rows(sums, 0, LANES, LANES)))
    if layer.kind != CONVOLUTION:
        taps = 1  # each is an input of its own
    share = np.float32(1.0 / (taps * layer.outputs))
    for i in range(inputs // taps):
        total = found[i * taps]
        for k in range(1, taps):
            total += found[i * taps + k]
        found[i] = total * share


@called
def _find_utilities(layer, inputs, settings, outgoing, incoming, sizes, at):
    """Utilities of a layer's units by this minibatch, in the place of the sizes of their activations.

    Loops are short and without branches, so that the compiler makes vectors of them.
    """
    wide, positions = layer.above // layer.outputs, inputs // layer.above
    if settings[_BY_ACTIVATION] <= 0.0:
        for k in range(inputs):
            sizes[at + k] = 1.0
    if settings[_BY_OUTGOING] > 0.0:
        for k in range(inputs):
            sizes[at + k] *= np.float64(outgoing[k])
    if inputs > layer.outputs:
        for unit in range(layer.outputs):  # no number of the next units lies before this one's
            total = 0.0
            for first in range(unit * positions, inputs, layer.outputs * positions):
                for k in range(first, first + positions):
                    total += sizes[at + k]
            sizes[at + unit] = total / (wide * positions)
    if settings[_BY_INCOMING] > 0.0:
        count = np.float64(inputs_of(layer))
        for unit in range(layer.outputs):
            sizes[at + unit] /= np.float64(incoming[unit]) / count


@called
def _note_utilities(layer, after, parts, row, settings, params, at, scratch):
    """Returns whether a unit of the layer is owed."""
    inputs, units = layer.above * positions_of(layer, after), layer.outputs
    ages, utilities = _integers64(parts[_AGE] + 8 * row * units), _floats64(parts[_UTILITIES] + 8 * row * units)
    means, owed = _floats64(parts[_MEAN] + 8 * row * inputs), _floats64(parts[_OWED] + 8 * row)
    outgoing = pointer(scratch.found)
    incoming = pointer(scratch.found[scratch.found.shape[0] // 2 :])
    found, sizes = pointer(scratch.means), pointer(scratch.sizes)
    if settings[_BY_OUTGOING] > 0.0:
        _mean_outgoing(after, params, pointer(scratch.sums), outgoing)
    if settings[_BY_INCOMING] > 0.0:
        sum_magnitudes(pointer(params), layer.weight, inputs_of(layer), layer.row, incoming)
    _find_utilities(layer, inputs, settings, outgoing, incoming, sizes, at)
    for k in range(inputs):
        means[k] = found[at + k]
    decay, mature, eligible = settings[DECAY], settings[_MATURITY], 0
    for unit in range(units):
        utilities[unit] = decay * utilities[unit] + (1.0 - decay) * sizes[at + unit]
    for unit in range(units):
        ages[unit] += 1
        eligible += np.float64(ages[unit]) > mature
    if eligible > 0:
        owed[0] += settings[_RATE] * (units if settings[_OF_ALL] > 0.0 else eligible)
    return math.floor(owed[0] + 1e-9) >= 1.0  # as the method counts them


@called
def _note_silence(layer, parts, row, lengths, sizes, at):
    """Returns whether a unit of the layer has been silent for too long."""
    start, due = row * layer.outputs, False
    silences, thresholds = _integers64(parts[_SILENT] + 8 * start), _integers64(parts[_THRESHOLD] + 8 * start)
    past = _integers32(parts[_PAST] + 4 * start * lengths)
    for unit in range(layer.outputs):
        if sizes[at + unit] > 0.0:
            past[unit * lengths + min(silences[unit], lengths - 1)] += 1
            silences[unit] = 0
        else:
            silences[unit] += 1
            due |= silences[unit] >= thresholds[unit]
    return due


@called
def note(network, watch, member, number, params, scratch):
    """Notes what was found of units, after update ``number``; returns whether the member's method is to decide."""
    kind, row, settings, at, due = watch.kind[member], watch.row[member], watch.settings[member], 0, False
    if kind in (_ACTIVATION, GRADIENT):
        due = number % int(settings[_EVERY]) == 0
        if not listens(watch, member, number):
            return due
    for i in range(network.layers.shape[0] - 1):
        layer, after, parts = layer_of(network, i), layer_of(network, i + 1), watch.parts[kind, i]
        if kind == UTILITY:
            due |= _note_utilities(layer, after, parts, row, settings, params, at, scratch)
        elif kind == _SILENCE:
            due |= _note_silence(layer, parts, row, int(settings[_LENGTHS]), scratch.sizes, at)
        else:
            sums = _floats64(parts[_SUM] + 8 * row * layer.outputs)
            for unit in range(layer.outputs):
                sums[unit] += scratch.sizes[at + unit]
        at += layer.above * positions_of(layer, after)
    return due


@merged
def keep_magnitudes(network, number, norms, scale, scratch):
    """Keeps mean |gradient| of a layer's units, from sums of the scaled gradient, for `note`."""
    at = np.int64(0)
    for i in range(number):
        below = layer_of(network, i)
        at += below.above * positions_of(below, layer_of(network, i + 1))
    layer = layer_of(network, number)
    for unit in range(layer.outputs):
        scratch.sizes[at + unit] = norms[unit] / (inputs_of(layer) * scale)
