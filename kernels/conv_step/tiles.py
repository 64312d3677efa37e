"""Register tiles: the inner loops of convolutions and dense layers, in which every load feeds several products.

Data lie with the examples innermost, so a vector holds one feature of eight examples. Each output is one chain of
products in the order of the loops, whatever tile it is part of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from fastplast_kernels.mlp_step.simd import LANES, _address, _splat, float32x8, fma_outer, load_rows, zeros

MAX_ROWS, MAX_VECTORS = 6, 2  # tile of `multiply`: 12 sums, 2 inputs and a weight fit the 16 registers of AVX2
MAX_OUTPUTS, MAX_INPUTS = 4, 3  # tile of `correlate`: 12 sums, 3 inputs and one output gradient

_FLOAT = ir.FloatType()

# Two vectors that hold 8, 4 or 2 parts of each of their sums become one with half as many parts: lanes (low, high).
_MERGES = (
    ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]),
    ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)


@intrinsic(prefer_literal=True)
def splat_rows(typingctx, array, index, stride, count):
    """Tuple of ``count`` vectors, the k-th with all lanes equal to element index + k * stride."""
    result = types.UniTuple(float32x8, count.literal_value)

    def codegen(context, builder, sig, args):
        rows = []
        for k in range(result.count):
            at = builder.add(args[1], builder.mul(args[2], args[2].type(k)))
            rows.append(_splat(builder, builder.load(_address(context, builder, sig.args[0], args[0], at, _FLOAT))))
        return context.make_tuple(builder, result, rows)

    return result(array, types.intp, types.intp, count), codegen


@intrinsic(prefer_literal=True)
def repeat(typingctx, rows, count):
    """Tuple with each vector of ``rows`` ``count`` times in a row."""
    result = types.UniTuple(float32x8, rows.count * count.literal_value)

    def codegen(context, builder, sig, args):
        source = [builder.extract_value(args[0], k // count.literal_value) for k in range(result.count)]
        return context.make_tuple(builder, result, source)

    return result(rows, count), codegen


@intrinsic(prefer_literal=True)
def store_rows(typingctx, array, index, stride, tile, rows):
    """Writes a tile of ``rows`` rows, row r to index + r * stride."""
    vectors = tile.count // rows.literal_value

    def codegen(context, builder, sig, args):
        for k in range(tile.count):
            r, v = divmod(k, vectors)
            at = builder.add(args[1], builder.mul(args[2], args[2].type(r)))
            at = builder.add(at, at.type(LANES * v))
            builder.store(builder.extract_value(args[3], k), _address(context, builder, array, args[0], at), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile, rows), codegen


def _lane_sums(builder, vectors):
    """The sums over the lanes of up to eight vectors, as one vector; the same tree of additions for each."""
    vectors = vectors + [ir.Constant(vectors[0].type, ir.Undefined)] * (LANES - len(vectors))

    def shuffle(a, b, lanes):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes))

    for low, high in _MERGES:
        pairs = zip(vectors[::2], vectors[1::2])
        vectors = [builder.fadd(shuffle(a, b, low), shuffle(a, b, high)) for a, b in pairs]
    return vectors[0]


@intrinsic(prefer_literal=True)
def add_lane_sums(typingctx, array, index, row_stride, column_stride, tile, rows):
    """Adds the sum over the lanes of each vector of a tile to element index + r * row_stride + c * column_stride."""
    columns = tile.count // rows.literal_value

    def codegen(context, builder, sig, args):
        vectors = [builder.extract_value(args[4], k) for k in range(tile.count)]
        for first in range(0, tile.count, LANES):
            sums = _lane_sums(builder, vectors[first : first + LANES])
            for lane in range(min(LANES, tile.count - first)):
                r, c = divmod(first + lane, columns)
                at = builder.add(args[1], builder.mul(args[2], args[2].type(r)))
                at = builder.add(at, builder.mul(args[3], args[3].type(c)))
                address = _address(context, builder, array, args[0], at, _FLOAT)
                part = builder.extract_element(sums, ir.IntType(32)(lane))
                builder.store(builder.fadd(builder.load(address), part), address)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, tile, rows), codegen


class Strides(NamedTuple):
    """Shape and strides of a sum of products, in floats; see `multiply`."""

    n_k: int
    w_row: int
    w_i: int
    w_j: int
    w_k: int
    x_i: int
    x_j: int
    x_k: int
    y_row: int


def _multiply_tile(rows: int, vectors: int) -> Callable:
    @njit(nogil=True, cache=True, error_model="numpy")
    def tile(by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at):
        sums = repeat(splat_rows(start, start_at, 1, rows), vectors)
        for i in range(n_i):
            for j in range(n_j):
                w_j, x_j = w_at + i * by.w_i + j * by.w_j, x_at + i * by.x_i + j * by.x_j
                for k in range(by.n_k):
                    weights = splat_rows(w, w_j + k * by.w_k, by.w_row, rows)
                    sums = fma_outer(sums, weights, load_rows(x, x_j + k * by.x_k, LANES, vectors))
        store_rows(y, y_at, by.y_row, sums, rows)

    return tile


def _multiply_rows(vectors: int) -> Callable:
    one, two, three, four, five, six = (_multiply_tile(rows, vectors) for rows in range(1, MAX_ROWS + 1))

    @njit(nogil=True, cache=True, error_model="numpy")
    def choose(rows, by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at):
        if rows == 6:
            six(by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at)
        elif rows == 5:
            five(by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at)
        elif rows == 4:
            four(by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at)
        elif rows == 3:
            three(by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at)
        elif rows == 2:
            two(by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at)
        else:
            one(by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at)

    return choose


_multiply_one_vector, _multiply_two_vectors = _multiply_rows(1), _multiply_rows(2)


@njit(nogil=True, cache=True, error_model="numpy")
def multiply(rows, lanes, by, n_i, n_j, w, w_at, x, x_at, start, start_at, y, y_at):
    """Sums of products whose inner index is a triple: forward passes and input gradients.

    For r < rows and l < lanes: y[y_at + r y_row + l] = start[start_at + r] + sum over i < n_i, j < n_j, k < n_k of
    w[w_at + r w_row + i w_i + j w_j + k w_k] * x[x_at + l + i x_i + j x_j + k x_k].

    Args:
        rows: at most `MAX_ROWS`.
        lanes: a multiple of `LANES`.
        by: n_k and the strides.
        n_i: outer terms.
        n_j: middle terms.
        w: left factors.
        w_at: index of the first.
        x: right factors.
        x_at: index of the first.
        start: where the sums start from.
        start_at: index of the first.
        y: result; may not overlap the factors.
        y_at: index of the first.
    """
    lane = 0
    while lanes - lane >= 2 * LANES:
        _multiply_two_vectors(rows, by, n_i, n_j, w, w_at, x, x_at + lane, start, start_at, y, y_at + lane)
        lane += 2 * LANES
    if lane < lanes:
        _multiply_one_vector(rows, by, n_i, n_j, w, w_at, x, x_at + lane, start, start_at, y, y_at + lane)


class PixelStrides(NamedTuple):
    """Length of a row of examples and strides of a sum over pixels, in floats; see `correlate`."""

    row: int
    d_i: int
    d_j: int
    x_i: int
    x_j: int
    g_row: int
    g_column: int


def _correlate_tile(outputs: int, inputs: int) -> Callable:
    count = outputs * inputs

    @njit(nogil=True, cache=True, error_model="numpy")
    def tile(by, n_i, n_j, d, d_at, x, x_at, g, g_at):
        sums = zeros(count)
        for i in range(n_i):
            for j in range(n_j):
                d_j, x_j = d_at + i * by.d_i + j * by.d_j, x_at + i * by.x_i + j * by.x_j
                for lane in range(0, by.row, LANES):
                    gradients = load_rows(d, d_j + lane, by.row, outputs)
                    sums = fma_outer(sums, gradients, load_rows(x, x_j + lane, by.row, inputs))
        add_lane_sums(g, g_at, by.g_row, by.g_column, sums, outputs)

    return tile


def _correlate_inputs(inputs: int) -> Callable:
    one, two, three, four = (_correlate_tile(outputs, inputs) for outputs in range(1, MAX_OUTPUTS + 1))

    @njit(nogil=True, cache=True, error_model="numpy")
    def choose(outputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at):
        if outputs == 4:
            four(by, n_i, n_j, d, d_at, x, x_at, g, g_at)
        elif outputs == 3:
            three(by, n_i, n_j, d, d_at, x, x_at, g, g_at)
        elif outputs == 2:
            two(by, n_i, n_j, d, d_at, x, x_at, g, g_at)
        else:
            one(by, n_i, n_j, d, d_at, x, x_at, g, g_at)

    return choose


_correlate_one, _correlate_two, _correlate_three = (_correlate_inputs(inputs) for inputs in range(1, MAX_INPUTS + 1))


@njit(nogil=True, cache=True, error_model="numpy")
def correlate(outputs, inputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at):
    """Adds sums over pixels and examples of output gradient times input: gradients of weights.

    For o < outputs and c < inputs: g[g_at + o g_row + c g_column] += sum over i < n_i, j < n_j, l < row of
    d[d_at + i d_i + j d_j + o row + l] * x[x_at + i x_i + j x_j + c row + l].

    Args:
        outputs: at most `MAX_OUTPUTS`.
        inputs: at most `MAX_INPUTS`.
        by: the strides.
        n_i: rows of pixels.
        n_j: pixels of a row.
        d: gradients with respect to outputs.
        d_at: index of the first.
        x: inputs.
        x_at: index of the first.
        g: gradients of weights.
        g_at: index of the first.
    """
    if inputs == 3:
        _correlate_three(outputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at)
    elif inputs == 2:
        _correlate_two(outputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at)
    else:
        _correlate_one(outputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at)
