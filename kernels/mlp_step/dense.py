"""A dense layer of one member: forward pass, gradient of the input, and the update of its weights.

`dense_update` is where time goes. The gradient of a tile of weights is summed over the examples in registers, the
optimiser changes the weights and moments of the tile, and the gradient is gone: it never exists in memory.

Weights are `[O, I]`, activations and their gradients `[B, stride]`, each at an index of a flat array. An output of the
forward pass or of the input gradient is the same sum whatever the batch and the tile, so an edge is served by a tile
that overlaps its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable

from fastplast_kernels.mlp_step.compilation import called, inlined
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
    splat,
    splat_row,
    store,
    store_first,
    store_halves,
    sum_lanes,
    sum_rows,
    zeros,
)

# Register tiles: 8 sums, 4 factors of one side and 2 of the other fit the 16 registers of AVX2.
_OUTPUTS, _EXAMPLES = 4, 2  # of the forward pass
_BACK_EXAMPLES, _BACK_VECTORS = 4, 2  # of the input gradient
_ROWS, _VECTORS = 4, 2  # of the weight gradient


@inlined
def _forward_tile(w, w_at, w_stride, x, x_at, x_stride, inputs):
    """Lane 4 b + o: example b times output o."""
    sums, whole = zeros(_EXAMPLES * _OUTPUTS), inputs - inputs % LANES
    for i in range(0, whole, LANES):
        examples = load_rows(x, x_at + i, x_stride, _EXAMPLES)
        sums = fma_outer(sums, examples, load_rows(w, w_at + i, w_stride, _OUTPUTS))
    if whole < inputs:
        examples = load_rows_first(x, x_at + whole, x_stride, inputs - whole, _EXAMPLES)
        sums = fma_outer(sums, examples, load_rows_first(w, w_at + whole, w_stride, inputs - whole, _OUTPUTS))
    return sum_rows(sums)


@called
def dense_forward(w, weight, bias, x, x_at, x_stride, y, y_at, y_stride, batch, inputs, outputs):
    """y = x W' + b.

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
    for o_next in range(0, outputs if outputs >= _OUTPUTS else 0, _OUTPUTS):
        o = min(o_next, outputs - _OUTPUTS)
        start = load_halves(w, bias + o, bias + o)
        for b in range(0, batch - 1, _EXAMPLES):
            tile = _forward_tile(w, weight + o * inputs, inputs, x, x_at + b * x_stride, x_stride, inputs)
            store_halves(y, y_at + b * y_stride + o, y_at + (b + 1) * y_stride + o, tile + start)
        if batch % _EXAMPLES:
            b = batch - 1
            tile = _forward_tile(w, weight + o * inputs, inputs, x, x_at + b * x_stride, 0, inputs)
            store_halves(y, y_at + b * y_stride + o, y_at + b * y_stride + o, tile + start)
    for o in range(outputs if outputs < _OUTPUTS else 0):
        for b in range(batch):
            tile = _forward_tile(w, weight + o * inputs, 0, x, x_at + b * x_stride, 0, inputs)
            store_first(y, y_at + b * y_stride + o, tile + splat(w[bias + o]), 1)


@inlined
def _backward_tile(w, w_at, inputs, d, d_at, d_stride, outputs):
    sums = zeros(_BACK_EXAMPLES * _BACK_VECTORS)
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
    """dx = d W: the gradient of the loss with respect to the inputs.

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
            for k in range(_BACK_EXAMPLES * _BACK_VECTORS):
                at = dx_at + (b + k // _BACK_VECTORS) * dx_stride + i + k % _BACK_VECTORS * LANES
                store(dx, at, tile[k])


# Update rules: from the gradient g, a weight (after decoupled decay), its moments and the coefficients of the step to
# the new weight and moments. `step.coefficients` makes the coefficients. A rule is a line in `_RULES`.


@inlined
def _adam(g, w, m, v, c):
    m = fma(c[1], g, c[0] * m)
    v = fma(g, g, c[2] * v)
    return fma(c[3], m / (sqrt(v) + c[4]), w), m, v


@inlined
def _sgd(g, w, m, v, c):
    m = fma(c[0], m, g)
    return fma(c[3], m, w), m, v
