"""Adam's coefficients of weights that count updates from a birth of their own.

A weight counts from the later of the births of its row and its column. Both coefficients are monotonous in the count,
also rounded: the later birth has the larger rate and the smaller root, so that no counts are compared. Roots are kept
with the sign of the rate, negative, and so both are the larger ones.
"""

from __future__ import annotations

import math

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.train_step.cpu.records import Pointers, inputs_of
from fastplast_kernels.train_step.cpu.simd import LANES, splat, store

TABLE = 4 * 256  # powers of a number are products of four tabled ones, one for each byte of the exponent


@called
def fill_powers(base, table):
    """Powers of a number, for `power`."""
    for first in range(0, TABLE, 256):
        value = 1.0
        for k in range(first, first + 256):
            table[k] = value
            value *= base
        base = value


@called
def power(table, n):
    """The n-th power, 0 <= n < 2^32, of the number whose table `fill_powers` made: the same bits whenever."""
    low, high = table[n & 255] * table[256 + (n >> 8 & 255)], table[512 + (n >> 16 & 255)] * table[768 + (n >> 24)]
    return low * high


@called
def is_born_late(born, since):
    """Whether any weight of a member counts from later than the member."""
    for side in range(2):
        for unit in range(born.shape[1]):
            if born[side, unit] > since:
                return True
    return False


@called
def _age(births, since, number, rate, powers, found, at):
    for unit in range(births.shape[0]):
        t = number - max(births[unit], since)
        found[0, at + unit] = np.float32(rate / (1.0 - power(powers[0], t)))
        found[1, at + unit] = np.float32(-math.sqrt(1.0 - power(powers[1], t)))


@called
def age_units(born, since, number, rate, powers, found):
    """Coefficients of both sides of all units, and of the member by itself, in an update.

    Args:
        born: `[2, U]` of the member.
        since: updates made when the count of the member began.
        number: of this update, from 1, as births count.
        rate: the learning rate.
        powers: tables of beta1 and beta2.
        found: float32 `[2, 2 U + 1]`: learning rate / (1 - beta1^t), and -sqrt(1 - beta2^t).
    """
    units, is_same = born.shape[1], True
    _age(born[0], since, number, rate, powers, found, 0)
    for unit in range(units):
        is_same &= born[0, unit] == born[1, unit]
    if is_same:  # as resets of both sides leave it
        for kind in range(2):
            for unit in range(units):
                found[kind, units + unit] = found[kind, unit]
    else:
        _age(born[1], since, number, rate, powers, found, units)
    t = number - since
    found[0, 2 * units] = np.float32(rate / (1.0 - power(powers[0], t)))
    found[1, 2 * units] = np.float32(-math.sqrt(1.0 - power(powers[1], t)))


@called
def spread_columns(layer, first, found, epsilon, moved, values):
    """Complete rates and epsilons of the columns of the first layer, whose rows are the member's.

    Args:
        layer: the layer.
        first: number of its first unit; -1 of a layer whose outputs are no hidden units.
        found: of `age_units`.
        epsilon: minus that of Adam, float32.
        moved: ``Pointers``.
        values: where they go.

    Returns:
        ``Pointers`` that know the places.
    """
    zero, own = np.int64(0), np.int64(found.shape[1] - 1)
    for o in range(layer.row):
        k = first + o if first >= 0 and o < layer.outputs else own
        values[o] = found[0, k] * found[1, k]
        values[layer.row + o] = epsilon * found[1, k]
    return Pointers(moved.params, moved.m, moved.v, values, zero, layer.row, zero, zero)


@called
def spread_ages(layer, first, below, units_below, found, moved, values):
    """Coefficients of a layer's columns and rows, from those of the units.

    Args:
        layer: the layer.
        first: number of its first unit; -1 of a layer whose outputs are no hidden units.
        below: number of the first unit of the layer below, -1 without.
        units_below: how many that layer has; the channels are these, once or twice.
        found: of `age_units`.
        moved: ``Pointers``.
        values: where the coefficients go: those of the member by itself, a vector; of the outputs, then of the inputs,
            rates and roots each.

    Returns:
        ``Pointers`` that know the places.
    """
    own, inputs = np.int64(found.shape[1] - 1), inputs_of(layer)
    area, whole = layer.kernel_height * layer.kernel_width, (inputs + LANES - 1) // LANES * LANES
    for kind in range(2):
        values[kind] = found[kind, own]
        start = LANES + kind * layer.row
        for o in range(layer.row):
            values[start + o] = found[kind, first + o] if first >= 0 and o < layer.outputs else found[kind, own]
        start = LANES + 2 * layer.row + kind * whole
        if below < 0:
            for i in range(0, whole, LANES):
                store(values, start + i, splat(found[kind, own]))
        else:
            for channel in range(layer.channels):
                value = found[kind, own // 2 + below + channel % units_below]
                for k in range(area):
                    values[start + channel * area + k] = value
    places = LANES + 0 * inputs, layer.row, LANES + 2 * layer.row, whole
    return Pointers(moved.params, moved.m, moved.v, values, *places)


@called
def of_vectors(moved):
    """For vectors of outputs, whose only row is the member by itself."""
    places = moved.outputs, moved.roots_of_outputs, 0 * moved.inputs, 0 * moved.inputs + 1
    return Pointers(moved.params, moved.m, moved.v, moved.values, *places)


@called
def from_row(moved, row):
    """For a matrix that begins with a row of another."""
    places = moved.outputs, moved.roots_of_outputs, moved.inputs + row, moved.roots_of_inputs
    return Pointers(moved.params, moved.m, moved.v, moved.values, *places)
