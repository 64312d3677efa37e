"""A member on its way from the arena to a thread's memory and back, and its ranked targets.

In the arena matrices are `[O, I]`, as everybody else has them; while a member is trained they are `[I, O]`.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.train_step.cpu.records import PIXELS, inputs_of, layer_of
from fastplast_kernels.train_step.cpu.rules import EPSILON_COLUMN, STRENGTH, WEIGHT_DECAY
from fastplast_kernels.train_step.cpu.simd import pointer
from fastplast_kernels.train_step.cpu.tiles import transpose_matrix
from fastplast_kernels.wasserstein.cpu import rank_target

_EXPONENT = np.uint32(0x7F800000)


@called
def _places(layer, k):
    """Where bias, scale and shift lie: in a state and in a row of the arena."""
    if k == 0:
        return layer.bias, layer.given_bias
    if k == 1:
        return layer.scale, layer.given_scale
    return layer.shift, layer.given_shift


@called
def copy_in(network, given, start, own):
    """A member's row of the arena to its own memory."""
    given, own = pointer(given), pointer(own)
    for i in range(network.layers.shape[0]):
        layer = layer_of(network, i)
        inputs = inputs_of(layer)
        at = start + layer.given_weight
        transpose_matrix(given, at, inputs, layer.outputs, inputs, own, layer.weight, layer.row)
        for k in range(3 if layer.standard >= 0 else 1):
            to, at = _places(layer, k)
            for o in range(layer.outputs):
                own[to + o] = given[start + at + o]


@called
def copy_out(network, own, given, start):
    """The inverse of `copy_in`."""
    given, own = pointer(given), pointer(own)
    for i in range(network.layers.shape[0]):
        layer = layer_of(network, i)
        inputs = inputs_of(layer)
        to = start + layer.given_weight
        transpose_matrix(own, layer.weight, layer.row, inputs, layer.outputs, given, to, inputs)
        for k in range(3 if layer.standard >= 0 else 1):
            at, to = _places(layer, k)
            for o in range(layer.outputs):
                given[start + to + o] = own[at + o]


@merged
def _find_alive(layer, arena, start, alive):
    """Which pixels' weights an update without a gradient may change, or may not leave unnoticed.

    A row rests if its moments are zero to the bit and its weights are zero or normal numbers: an update adds zero to
    it. Weights that are not finite make an update's norm not finite, and denormal ones become zero.
    """
    alive[:] = 0
    for o in range(layer.outputs):
        first = start + layer.given_weight + o * layer.channels
        w = arena.params[first : first + layer.channels].view(np.uint32)
        m = arena.m[first : first + layer.channels].view(np.uint32)
        v = arena.v[first : first + layer.channels].view(np.uint32)
        for i in range(layer.channels):
            exponent, zero = w[i] & _EXPONENT, (w[i] << np.uint32(1)) == 0
            odd = (exponent == _EXPONENT) | ((exponent == 0) & ~zero)
            alive[i] |= np.uint8(((m[i] | v[i]) != 0) | odd)


@called
def take_out(network, arena, run, member, sparse, scratch, state):
    """Copies a member from the arena to its thread's memory."""
    start, hyper = member * arena.size, run.hyper[member]
    copy_in(network, arena.params, start, state.params)
    copy_in(network, arena.m, start, state.m)
    if not run.momentum_only:
        copy_in(network, arena.v, start, state.v)
    if hyper[STRENGTH] != 0.0 and not run.ranked[member]:
        copy_in(network, arena.anchor, start, state.anchor)
    layer = layer_of(network, 0)
    if layer.kind == PIXELS and sparse:
        if hyper[STRENGTH] != 0.0 or hyper[WEIGHT_DECAY] != 0.0 or hyper[EPSILON_COLUMN] < 1e-30:
            scratch.alive[:] = 1
        else:
            _find_alive(layer, arena, start, scratch.alive)


@called
def keep(network, arena, run, member, state):
    """Copies a member back to the arena."""
    start = member * arena.size
    copy_out(network, state.params, arena.params, start)
    copy_out(network, state.m, arena.m, start)
    if not run.momentum_only:
        copy_out(network, state.v, arena.v, start)


@merged
def ranked_targets(layer, arena, member, state, scratch):
    """Deals the sorted targets of a matrix to its weights by rank, ties by their places in the arena.

    The result is in `scratch.pulled`, as the matrix in a `State`.
    """
    inputs = inputs_of(layer)
    count, first = inputs * layer.outputs, member * arena.size + layer.given_weight
    weights, target = scratch.target[:count], scratch.target[count : 2 * count]
    transpose_matrix(pointer(state.params), layer.weight, layer.row, inputs, layer.outputs, pointer(weights), 0, inputs)
    rank_target(weights, arena.anchor[first : first + count], target, scratch.sorting)
    transpose_matrix(pointer(target), 0, inputs, layer.outputs, inputs, pointer(scratch.pulled), 0, layer.row)
