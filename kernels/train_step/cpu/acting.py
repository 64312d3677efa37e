"""What is done to a member's parameters in and after an update, as ``train_step.actions`` says.

All parameters of a layer lie side by side, whole vectors with zeros between rows. What is kept beside the parameters is
in the thread's memory, too, and goes back to its tensors when they do: so it is undone with a bad update.
"""

from __future__ import annotations

import math

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.train_step.actions import KINDS
from fastplast_kernels.train_step.cpu.members import copy_in, copy_out
from fastplast_kernels.train_step.cpu.normal import draw_normal
from fastplast_kernels.train_step.cpu.records import inputs_of, layer_of
from fastplast_kernels.train_step.cpu.simd import (
    LANES,
    fma,
    load,
    maximum,
    minimum,
    numbers_at,
    pointer,
    splat,
    store,
    sum_lanes,
)
from fastplast_kernels.train_step.cpu.tiles import clear
from numba.core import types

_CLAMP, _AVERAGE, _SHRINK, _RESCALE, NOISE, PROTECT = range(len(KINDS))  # in their order
# Columns of the settings, and parts, by kind.
_DECAY, _AVERAGE_EVERY = range(2)
_KEEP, _FACTOR = range(2)
_EVERY = 0
_SIZE, _NOISE_DECAY, _RELATIVE = range(3)
_SLOW, _UPDATES = range(2)  # of PROTECT the utility is the first
_NOISE_UPDATES = 0

_floats32, _integers64 = numbers_at(types.float32), numbers_at(types.int64)


@merged
def kept_of(network, scratch):
    """Where a tensor that is as large as a member is kept, behind normal numbers."""
    return pointer(scratch.held[network.size :])


@merged
def gradient_of(network, scratch):
    """Where the gradient is, behind that."""
    return pointer(scratch.held[2 * network.size :])


@merged
def counter_of(acting, member):
    """Where the updates of a member that acts by their number are counted."""
    part = _NOISE_UPDATES if acting.kind[member] == NOISE else _UPDATES
    return _integers64(acting.parts[member, part] + 8 * acting.row[member])


@called
def take_held(network, acting, member, scratch):
    """What an action needs beside the parameters, to the thread's memory, after the member."""
    kind = acting.kind[member]
    if kind in (_AVERAGE, PROTECT):
        kept = _floats32(acting.parts[member, _SLOW])
        copy_in(network, kept, acting.row[member] * acting.size, kept_of(network, scratch))
    elif kind == _SHRINK and not acting.draws[member]:
        copy_in(network, pointer(acting.init), member * acting.size, pointer(scratch.held))
    if kind in (NOISE, PROTECT):
        scratch.alive[:] = 1  # no gradient is zero, or each is to be written
        if not acting.draws[member]:
            clear(scratch.held, 0, network.size)


@called
def keep_held(network, acting, member, scratch):
    """The inverse, for what an action changes."""
    if acting.kind[member] in (_AVERAGE, PROTECT):
        kept = _floats32(acting.parts[member, _SLOW])
        copy_out(network, kept_of(network, scratch), kept, acting.row[member] * acting.size)


@called
def count_actions(acting, member, made):
    """Adds a call's updates to those that an action counts."""
    if acting.kind[member] in (_AVERAGE, NOISE, PROTECT):
        counter_of(acting, member)[0] += made


@called
def draw(network, acting, member, s, scratch):
    """Normal numbers for the update at a position of the order, to ``scratch.held``."""
    if acting.draws[member]:
        draw_normal(network, acting.keys[member, s], acting.size, scratch)


@called
def noise_of(acting, member, made):
    """Size of the noise on the gradient, and whether it is relative; after so many updates of a call."""
    settings, updates = acting.settings[member], counter_of(acting, member)[0] + made
    return settings[_SIZE] * settings[_NOISE_DECAY] ** updates, settings[_RELATIVE] > 0.0


@merged
def end_of(network, i):
    """Index after the parameters of a layer."""
    last = network.layers.shape[0] - 1
    return layer_of(network, i + 1).weight if i < last else network.size


@called
def _clamp(params, begin, end, bound):
    high, low = splat(bound), splat(-bound)
    for k in range(begin, end, LANES):
        store(params, k, minimum(maximum(load(params, k), low), high))


@called
def _average(params, held, size, decay, is_due):
    """Returns 0 if the parameters are finite, else NaN."""
    kept, share, bad = splat(decay), splat(np.float32(1.0) - decay), splat(0.0)
    for k in range(0, size, LANES):
        slow = fma(kept, load(held, k), share * load(params, k))
        store(held, k, slow)
        if is_due:
            store(params, k, slow)
            bad = fma(slow, splat(0.0), bad)
    return sum_lanes(bad)


@called
def _shrink(params, held, size, keep, factor):
    """Returns 0 if the parameters are finite, else NaN."""
    kept, share, bad = splat(keep), splat(factor), splat(0.0)
    for k in range(0, size, LANES):
        w = fma(share, load(held, k), kept * load(params, k))
        store(params, k, w)
        bad = fma(w, splat(0.0), bad)
    return sum_lanes(bad)


@called
def _rescale(params, layer, wanted):
    """Returns 0 if the parameters are finite, else NaN."""
    begin, total, bad = layer.weight, 0.0, splat(0.0)
    end = begin + inputs_of(layer) * layer.row
    for at in range(begin, end, layer.row):
        squares = splat(0.0)
        for k in range(at, at + layer.row, LANES):
            w = load(params, k)
            squares = fma(w, w, squares)
        total += sum_lanes(squares)
    if total > 0.0:
        factor = splat(np.float32(wanted / math.sqrt(total)))
        for k in range(begin, end, LANES):
            w = load(params, k) * factor
            store(params, k, w)
            bad = fma(w, splat(0.0), bad)
    return sum_lanes(bad)


@called
def act(network, acting, member, number, made, params, scratch):
    """Changes a member's parameters after an update.

    Args:
        network: the network.
        acting: what is done.
        member: whose.
        number: of the update.
        made: updates of this call before it.
        params: of the member's ``State``.
        scratch: the thread's memory.

    Returns:
        Whether they are finite.
    """
    kind, settings, params, held = acting.kind[member], acting.settings[member], pointer(params), pointer(scratch.held)
    bad = 0.0
    if kind == _CLAMP:
        for i in range(network.layers.shape[0]):
            bound = np.float32(acting.of_layers[member, i])
            _clamp(params, layer_of(network, i).weight, end_of(network, i), bound)
    elif kind == _AVERAGE:
        is_due = (counter_of(acting, member)[0] + made + 1) % int(settings[_AVERAGE_EVERY]) == 0
        bad = _average(params, kept_of(network, scratch), network.size, np.float32(settings[_DECAY]), is_due)
    elif kind == _SHRINK:
        bad = _shrink(params, held, network.size, np.float32(settings[_KEEP]), np.float32(settings[_FACTOR]))
    elif kind == _RESCALE and number % int(settings[_EVERY]) == 0:
        for i in range(network.layers.shape[0]):
            wanted = acting.of_layers[member, i]
            if wanted >= 0.0:
                bad += _rescale(params, layer_of(network, i), wanted)
    return bad == 0.0
