"""The update of a layer's parameters: gradient, pull, weight decay, optimiser and norms of the change in one pass.

The gradient of a tile of weights is summed over the examples in registers, the optimiser changes the weights and
moments of the tile, and the gradient is gone: it never exists in memory. Weights are `[I, O]`, a row of whole vectors
for each input. The norms of the change are chains over the inputs, one for each output, whatever the tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from fastplast_kernels.compilation import called, inlined
from fastplast_kernels.optimisers import DECAY, KEEP, NUM_COEFFICIENTS
from fastplast_kernels.train_step.cpu.inputs import WORD, stride
from fastplast_kernels.train_step.cpu.records import Pointers
from fastplast_kernels.train_step.cpu.simd import (
    LANES,
    absolute,
    first_lanes,
    fma,
    has_wide_registers,
    load,
    lowest_bit,
    pointer,
    splat,
    store,
    sum_lanes,
)
from fastplast_kernels.train_step.cpu.tiles import GROUP, clear
from fastplast_kernels.train_step.cpu.tuples import fma_outer, load_rows, splat_row, zeros

_ROWS = 8 if has_wide_registers() else 4  # of weights in a tile, one vector each
_VECTORS = 8 if has_wide_registers() else 4  # of a row of weights in a tile, where zeros are left out


class Updates(NamedTuple):
    """The updates of one optimiser, each returning the sums of |change| and of its squares."""

    of_gradient: Callable
    of_product: Callable
    of_nonzero: Callable


class Factors(NamedTuple):
    """Where the inputs of a product lie, and how far apart two rows of weights, examples and groups are."""

    at: int
    row: int
    example: int
    group: int


@called
def pointers(state, values):
    """Of parameters and moments, free to pass on; ``values`` is for coefficients of rows and columns."""
    none = np.int64(0)
    places = pointer(state.params), pointer(state.m), pointer(state.v)
    return Pointers(*places, pointer(values), none, none, none, none)


@called
def _total(norms, row, outputs):
    l1, l2 = 0.0, 0.0
    for o in range(0, outputs, LANES):
        l1 += sum_lanes(load(norms, o))
        l2 += sum_lanes(load(norms, row + o))
    return l1, l2


def build_updates(rule: Callable, regularised: bool, noisy: bool = False) -> Updates:
    """The updates of parameters with one optimiser.

    Args:
        rule: from `rules`.
        regularised: whether there may be weight decay or a pull to a target. Without, neither costs anything.
        noisy: whether ``pull`` times the targets is added to the gradient, in place of a pull; with weight decay.

    Returns:
        Functions for kernels.
    """

    @inlined
    def update_vector(g, i, o, lanes, state, at, anchor, target, c, pull, l1, l2):
        before = load(state.params, at)
        w = before
        if regularised:
            size = load(anchor, target) if noisy else w - load(anchor, target)
            g = fma(pull, size, fma(c[DECAY], w, g))
            w = c[KEEP] * w
        w, m, v = rule(g, w, load(state.m, at), load(state.v, at), c, state, i, o)
        store(state.params, at, w)
        store(state.m, at, m)
        store(state.v, at, v)
        moved = w - before
        if lanes < LANES:
            moved = first_lanes(moved, lanes)
        return l1 + absolute(moved), fma(moved, moved, l2)

    return _build_all(update_vector)


def build_norms() -> Updates:
    """As updates, but of nothing else than sums of |gradient| and of its squares; in ``norms`` those of each output.

    Returns:
        Functions for kernels.
    """

    @inlined
    def add_norms(g, i, o, lanes, state, at, anchor, target, c, pull, l1, l2):
        return l1 + absolute(g), fma(g, g, l2)

    return _build_all(add_norms)


def build_storing() -> Updates:
    """As updates, but the gradient times ``pull`` is written to ``state.m``, and nothing else is done.

    Returns:
        Functions for kernels.
    """

    @inlined
    def store_gradient(g, i, o, lanes, state, at, anchor, target, c, pull, l1, l2):
        store(state.m, at, pull * g)
        return l1, l2

    return _build_all(store_gradient)


def _build_all(update_vector: Callable) -> Updates:
    return Updates(*(build(update_vector) for build in (_build_of_gradient, _build_of_product, _build_of_nonzero)))


def _build_of_gradient(update_vector: Callable) -> Callable:
    @called
    def of_gradient(state, at, row, rows, outputs, anchor, target, coefficients, pull, gradient, start):
        """Updates weights whose gradients are in memory.

        Args:
            state: `pointer`s to parameters and moments.
            at: index of the first weight, in all of them.
            row: floats from one row of weights to the next.
            rows: I.
            outputs: O.
            anchor: `pointer` to the targets of the pull.
            target: index of the first.
            coefficients: of the step, float32.
            pull: 2 * strength * c * scale of the gradient, float32.
            gradient: flat array, as the weights.
            start: index of the first.
        """
        c, pulled = splat_row(coefficients, 0, 1, NUM_COEFFICIENTS), splat(pull)
        sum_l1, sum_l2 = 0.0, 0.0
        for r in range(rows):
            l1, l2 = zeros(2)
            for o in range(0, outputs, LANES):
                k = r * row + o
                l1, l2 = update_vector(
                    load(gradient, start + k), r, o, outputs - o, state, at + k, anchor, target + k, c, pulled, l1, l2
                )
            sum_l1 += sum_lanes(l1)
            sum_l2 += sum_lanes(l2)
        return sum_l1, sum_l2

    return of_gradient


def _build_of_product(update_vector: Callable) -> Callable:
    def tile_of(count: int) -> Callable:
        @called
        def tile(begin, end, state, at, row, outputs, anchor, target, coefficients, pull, x, factors, d, batch, norms):
            c, pulled = splat_row(coefficients, 0, 1, NUM_COEFFICIENTS), splat(pull)
            for r in range(begin, end, count):
                for o in range(0, outputs, LANES):
                    g = zeros(count)
                    for first in range(0, batch, GROUP):
                        x_b = factors.at + r * factors.row + first // GROUP * factors.group
                        d_b = first * row + o
                        for _ in range(min(GROUP, batch - first)):
                            g = fma_outer(g, splat_row(x, x_b, factors.row, count), load_rows(d, d_b, LANES, 1))
                            x_b += factors.example
                            d_b += row
                    l1, l2 = load(norms, o), load(norms, row + o)
                    for k in range(count):
                        p = (r + k) * row + o
                        l1, l2 = update_vector(
                            g[k] + splat(0.0),
                            r + k,
                            o,
                            outputs - o,
                            state,
                            at + p,
                            anchor,
                            target + p,
                            c,
                            pulled,
                            l1,
                            l2,
                        )
                    store(norms, o, l1)
                    store(norms, row + o, l2)

        return tile

    large, single = tile_of(_ROWS), tile_of(1)

    @called
    def of_product(
        state, at, row, rows, outputs, anchor, target, coefficients, pull, x, factors, d, batch, norms, first
    ):
        """Updates weights whose gradients are products of inputs and gradients of outputs.

        Args:
            state: `pointer`s to parameters and moments.
            at: index of the first weight, in all of them.
            row: floats from one row of weights to the next.
            rows: I.
            outputs: O.
            anchor: `pointer` to the targets of the pull.
            target: index of the first.
            coefficients: of the step, float32.
            pull: 2 * strength * c * scale of the gradient, float32.
            x: `pointer` to the inputs.
            factors: where they lie.
            d: `pointer` to the gradients with respect to the outputs, `[B, row]`.
            batch: B.
            norms: scratch, `[2, row]`.
            first: whether these are the first rows of a matrix; others add to the sums of those before.
        """
        if first:
            clear(norms, 0, 2 * row)
        whole = rows - rows % _ROWS
        rest = at, row, outputs, anchor, target, coefficients, pull, x, factors, d, batch, norms
        large(0, whole, state, *rest)
        single(whole, rows, state, *rest)
        return _total(norms, row, outputs)

    return of_product


def _build_of_nonzero(update_vector: Callable) -> Callable:
    def row_of(count: int) -> Callable:
        @inlined
        def update_row(i, o, state, at, row, outputs, anchor, target, c, pulled, x, x_row, d, examples, batch, norms):
            g = zeros(count)
            for word in range((batch + WORD - 1) // WORD):
                bits = examples[word, i]
                while bits != 0:
                    b = word * WORD + lowest_bit(bits)
                    bits &= bits - 1
                    g = fma_outer(g, splat_row(x, b * x_row + i, 0, 1), load_rows(d, b * row + o, LANES, count))
            for k in range(count):
                o_k = o + k * LANES
                p = i * row + o_k
                l1, l2 = update_vector(
                    g[k] + splat(0.0), i, o_k, outputs - o_k, state, at + p, anchor, target + p, c, pulled,
                    load(norms, o_k), load(norms, row + o_k),
                )  # fmt: skip
                store(norms, o_k, l1)
                store(norms, row + o_k, l2)

        return update_row

    wide_row, narrow_row = row_of(_VECTORS), row_of(1)

    @called
    def of_nonzero(
        state, at, row, rows, outputs, anchor, target, coefficients, pull, x, d, examples, alive, batch, norms
    ):
        """Updates weights of the first layer as `of_product` does, by the examples that have a pixel.

        A row that no example touches and that nothing else moves is left out.

        Args:
            state: `pointer`s to parameters and moments.
            at: index of the first weight, in all of them.
            row: floats from one row of weights to the next.
            rows: I.
            outputs: O.
            anchor: `pointer` to the targets of the pull.
            target: index of the first.
            coefficients: of the step, float32.
            pull: 2 * strength * c * scale of the gradient, float32.
            x: `pointer` to the inputs, `[B, stride(I)]`.
            d: `pointer` to the gradients with respect to the outputs, `[B, row]`.
            examples: of `find_nonzero`.
            alive: `[I]`, whether an update may move a row without a gradient; rows that are touched become so.
            batch: B.
            norms: scratch, `[2, row]`.
        """
        clear(norms, 0, 2 * row)
        c, pulled = splat_row(coefficients, 0, 1, NUM_COEFFICIENTS), splat(pull)
        x_row, whole = stride(rows), row - row % (_VECTORS * LANES)
        for i in range(rows):
            touched = alive[i] != 0
            for word in range((batch + WORD - 1) // WORD):
                touched |= examples[word, i] != 0
            if not touched:
                continue
            alive[i] = np.uint8(1)
            for o in range(0, whole, _VECTORS * LANES):
                wide_row(i, o, state, at, row, outputs, anchor, target, c, pulled, x, x_row, d, examples, batch, norms)
            for o in range(whole, row, LANES):
                narrow_row(
                    i, o, state, at, row, outputs, anchor, target, c, pulled, x, x_row, d, examples, batch, norms
                )
        return _total(norms, row, outputs)

    return of_nonzero
