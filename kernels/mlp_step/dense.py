"""A dense layer of one member: forward pass, gradient of the input, and the update of its weights.

`dense_update` is where time goes. The gradient of a tile of weights is summed over the examples in registers, the
optimiser changes the weights and moments of the tile, and the gradient is gone: it never exists in memory.

Weights are `[O, I]`, activations and their gradients `[B, stride]`, each at an index of a flat array. An output of the
forward pass or of the input gradient is the same sum whatever the batch and the tile, so an edge is served by a tile
that overlaps its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fastplast_kernels.compilation import called, inlined
from fastplast_kernels.mlp_step.simd import (
    LANES,
    absolute,
    first_lanes,
    fma,
    fma_outer,
    load,
    load_first,
    load_halves,
    load_rows,
    load_rows_first,
    pointer,
    splat,
    splat_row,
    store,
    store_first,
    store_halves,
    sum_lanes,
    sum_rows,
    zeros,
)
from fastplast_kernels.optimisers import DECAY, KEEP, NUM_COEFFICIENTS

# Register tiles of 4 x 2 sums: with 4 factors of one side and 2 of the other they fit the 16 registers of AVX2.
_TILE = 8
_OUTPUTS, _EXAMPLES = 4, 2  # of the forward pass
_BACK_EXAMPLES, _BACK_VECTORS = 4, 2  # of the input gradient
_ROWS, _VECTORS = 4, 2  # of the weight gradient


@inlined
def _forward_tile(w, w_at, w_stride, x, x_at, x_stride, inputs):
    """Lane 4 b + o: example b times output o."""
    sums, whole = zeros(_TILE), inputs - inputs % LANES
    for i in range(0, whole, LANES):
        examples = load_rows(x, x_at + i, x_stride, _EXAMPLES)
        sums = fma_outer(sums, examples, load_rows(w, w_at + i, w_stride, _OUTPUTS))
    if whole < inputs:
        examples = load_rows_first(x, x_at + whole, x_stride, inputs - whole, _EXAMPLES)
        sums = fma_outer(sums, examples, load_rows_first(w, w_at + whole, w_stride, inputs - whole, _OUTPUTS))
    return sum_rows(sums)


@called
def dense_forward(w, weight, bias, x, x_at, x_stride, y, y_at, y_stride, batch, inputs, outputs):
    """Forward pass, y = x W' + b.

    Args:
        w: flat parameters.
        weight: index of the weight matrix in them.
        bias: index of the bias.
        x: flat array of the inputs.
        x_at: index of the first example.
        x_stride: floats from one example to the next.
        y: flat array of the outputs; may be the same array elsewhere.
        y_at: index of the first example.
        y_stride: floats from one example to the next.
        batch: B.
        inputs: I.
        outputs: O.
    """
    w, x, y, same = pointer(w), pointer(x), pointer(y), np.int64(0)
    for o_next in range(0, outputs if outputs >= _OUTPUTS else 0, _OUTPUTS):
        o = min(o_next, outputs - _OUTPUTS)
        start = load_halves(w, bias + o, bias + o)
        for b in range(0, batch - 1, _EXAMPLES):
            tile = _forward_tile(w, weight + o * inputs, inputs, x, x_at + b * x_stride, x_stride, inputs)
            store_halves(y, y_at + b * y_stride + o, y_at + (b + 1) * y_stride + o, tile + start)
        if batch % _EXAMPLES:
            b = batch - 1
            tile = _forward_tile(w, weight + o * inputs, inputs, x, x_at + b * x_stride, same, inputs)
            store_halves(y, y_at + b * y_stride + o, y_at + b * y_stride + o, tile + start)
    for o in range(outputs if outputs < _OUTPUTS else 0):
        for b in range(batch):
            tile = _forward_tile(w, weight + o * inputs, same, x, x_at + b * x_stride, same, inputs)
            store_first(y, y_at + b * y_stride + o, tile + splat(w[bias + o]), 1)


@inlined
def _backward_tile(w, w_at, inputs, d, d_at, d_stride, outputs):
    sums = zeros(_TILE)
    for o in range(outputs):
        factors = splat_row(d, d_at + o, d_stride, _BACK_EXAMPLES)
        sums = fma_outer(sums, factors, load_rows(w, w_at + o * inputs, LANES, _BACK_VECTORS))
    return sums


@inlined
def _backward_edge(w, w_at, inputs, d, d_at, outputs, lanes):
    sums = zeros(1)
    for o in range(outputs):
        sums = fma_outer(sums, splat_row(d, d_at + o, 0, 1), load_rows_first(w, w_at + o * inputs, 0, lanes, 1))
    return sums[0]


@called
def dense_backward_input(w, weight, d, d_at, d_stride, dx, dx_at, dx_stride, batch, inputs, outputs):
    """Gradient of the loss with respect to the inputs, dx = d W.

    Args:
        w: flat parameters.
        weight: index of the weight matrix in them.
        d: flat array of the gradients with respect to the outputs.
        d_at: index of the first example.
        d_stride: floats from one example to the next.
        dx: flat array of the result; may be the same array elsewhere.
        dx_at: index of the first example.
        dx_stride: floats from one example to the next.
        batch: B.
        inputs: I.
        outputs: O.
    """
    w, d, dx = pointer(w), pointer(d), pointer(dx)
    width = _BACK_VECTORS * LANES
    if inputs < width or batch < _BACK_EXAMPLES:
        for b in range(batch):
            for i in range(0, inputs, LANES):
                lanes = min(LANES, inputs - i)
                edge = _backward_edge(w, weight + i, inputs, d, d_at + b * d_stride, outputs, lanes)
                store_first(dx, dx_at + b * dx_stride + i, edge, lanes)
        return
    for b_next in range(0, batch, _BACK_EXAMPLES):
        b = min(b_next, batch - _BACK_EXAMPLES)
        for i_next in range(0, inputs, width):
            i = min(i_next, inputs - width)
            tile = _backward_tile(w, weight + i, inputs, d, d_at + b * d_stride, d_stride, outputs)
            for k in range(_TILE):
                at = dx_at + (b + k // _BACK_VECTORS) * dx_stride + i + k % _BACK_VECTORS * LANES
                store(dx, at, tile[k])


def build_dense_update(rule: Callable, regularised: bool) -> Callable:
    """The update of a layer's weights with one optimiser.

    Args:
        rule: from `rules`.
        regularised: whether there may be weight decay or a pull to a target. Without, neither costs anything.

    Returns:
        A function for kernels, `dense_update` below.
    """

    @inlined
    def change(g, w, m, v, q, c, pull):
        if regularised:
            g = fma(pull, w - q, fma(c[DECAY], w, g))
            w = c[KEEP] * w
        return rule(g, w, m, v, c)

    @inlined
    def update_whole(g, params, m, v, at, anchor, anchor_at, c, pull, l1, l2):
        w = load(params, at)
        q = load(anchor, anchor_at) if regularised else w
        new_w, new_m, new_v = change(g, w, load(m, at), load(v, at), q, c, pull)
        store(params, at, new_w)
        store(m, at, new_m)
        store(v, at, new_v)
        moved = new_w - w
        return l1 + absolute(moved), fma(moved, moved, l2)

    @inlined
    def update_first(lanes, g, params, m, v, at, anchor, anchor_at, c, pull, l1, l2):
        if lanes == LANES:
            return update_whole(g, params, m, v, at, anchor, anchor_at, c, pull, l1, l2)
        w = load_first(params, at, lanes)
        q = load_first(anchor, anchor_at, lanes) if regularised else w
        new_w, new_m, new_v = change(g, w, load_first(m, at, lanes), load_first(v, at, lanes), q, c, pull)
        store_first(params, at, new_w, lanes)
        store_first(m, at, new_m, lanes)
        store_first(v, at, new_v, lanes)
        moved = first_lanes(new_w - w, lanes)
        return l1 + absolute(moved), fma(moved, moved, l2)

    @called
    def dense_update(
        params,
        m,
        v,
        weight,
        anchor,
        target,
        coefficients,
        pull,
        x,
        x_at,
        x_stride,
        d,
        d_at,
        d_stride,
        batch,
        inputs,
        outputs,
    ):
        """Weight gradient d'x, pull, decay, optimiser and norms of the change in one pass.

        Args:
            params: flat parameters, changed in place, as are the moments.
            m: first moments.
            v: second moments; m again for a rule without.
            weight: index of the weight matrix in these three.
            anchor: flat array of the targets of the pull.
            target: index of the first target.
            coefficients: of the step, float32.
            pull: 2 * strength * c * scale of the gradient, float32.
            x: flat array of the layer's inputs.
            x_at: index of the first example.
            x_stride: floats from one example to the next.
            d: flat array of the gradients with respect to the outputs, times the scale that the rule asks for.
            d_at: index of the first example.
            d_stride: floats from one example to the next.
            batch: B.
            inputs: I.
            outputs: O.

        Returns:
            Sum of |change| and sum of its squares, float64.
        """
        params, m, v, anchor, x, d = pointer(params), pointer(m), pointer(v), pointer(anchor), pointer(x), pointer(d)
        c = splat_row(coefficients, 0, 1, NUM_COEFFICIENTS)
        pull_all = splat(pull)
        sum_l1, sum_l2 = 0.0, 0.0
        whole, width = inputs - inputs % (_VECTORS * LANES), _VECTORS * LANES
        for o in range(0, outputs, _ROWS):
            l1, l2 = zeros(2)
            if o + _ROWS <= outputs:
                for i in range(0, whole, width):
                    g, d_b, x_b = zeros(_TILE), d_at + o, x_at + i
                    for _ in range(batch):
                        g = fma_outer(g, splat_row(d, d_b, 1, _ROWS), load_rows(x, x_b, LANES, _VECTORS))
                        d_b += d_stride
                        x_b += x_stride
                    for k in range(_TILE):
                        at = (o + k // _VECTORS) * inputs + i + k % _VECTORS * LANES
                        l1, l2 = update_whole(g[k], params, m, v, weight + at, anchor, target + at, c, pull_all, l1, l2)
            for row in range(o, min(o + _ROWS, outputs)):
                for i in range(whole if o + _ROWS <= outputs else 0, inputs, LANES):
                    lanes = min(LANES, inputs - i)
                    edge = zeros(1)
                    for b in range(batch):
                        factor = splat_row(d, d_at + b * d_stride + row, 1, 1)
                        edge = fma_outer(edge, factor, load_rows_first(x, x_at + b * x_stride + i, 0, lanes, 1))
                    at = row * inputs + i
                    l1, l2 = update_first(
                        lanes, edge[0], params, m, v, weight + at, anchor, target + at, c, pull_all, l1, l2
                    )
            sum_l1 += sum_lanes(l1)
            sum_l2 += sum_lanes(l2)
        return sum_l1, sum_l2

    return dense_update
