"""Register tiles: the inner loops of convolutions and dense layers, in which every load feeds several products.

A group of sixteen examples is innermost, so that a vector holds one feature of eight examples. Each output is one chain
of products in the order of the loops, whatever tile it is part of: twelve sums, their inputs and a weight fit the
sixteen registers of AVX2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.mlp_step.simd import (
    LANES,
    _address,
    _shuffle,
    float32x8,
    fma_outer,
    load_rows,
    splat_row,
    zeros,
)
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

# Decorator of a function that is called at one place: Numba writes its body there, which saves compiling both.
merged = numba.njit(inline="always")

GROUP = 16  # examples that are stored side by side: a cache line, two vectors

_FLOAT = ir.FloatType()

# Two vectors that hold 8, 4 or 2 parts of each of their sums become one with half as many parts: lanes (low, high).
_MERGES = (
    ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]),
    ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)


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
    for low, high in _MERGES:
        pairs = zip(vectors[::2], vectors[1::2])
        vectors = [builder.fadd(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high)) for a, b in pairs]
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


@intrinsic
def integers(typingctx, table):
    """Where an int64 table lies in memory: the table without its reference count, row after row."""

    def codegen(context, builder, sig, args):
        return context.make_array(table)(context, builder, args[0]).data

    return types.CPointer(types.int64)(table), codegen


@intrinsic
def transpose(typingctx, tile):
    """Lane b of vector a of eight vectors becomes lane a of vector b."""

    def codegen(context, builder, sig, args):
        rows = [builder.extract_value(args[0], k) for k in range(LANES)]
        for distance in (4, 2, 1):  # exchange off-diagonal squares of this size
            low = [k + (LANES if k & distance else 0) - (distance if k & distance else 0) for k in range(LANES)]
            high = [k + distance for k in low]
            for k in range(LANES):
                if not k & distance:
                    a, b = rows[k], rows[k + distance]
                    rows[k], rows[k + distance] = _shuffle(builder, a, b, low), _shuffle(builder, a, b, high)
        return context.make_tuple(builder, tile, rows)

    return tile(tile), codegen


class Strides(NamedTuple):
    """Inner length and strides, in floats, of the sums of `multiply`."""

    n_k: int
    w_row: int
    w_i: int
    w_j: int
    w_k: int
    x_column: int
    x_i: int
    x_j: int
    y_column: int


def _multiply_tile(rows: int) -> Callable:
    @called
    def tile(blocks, by, taps, first, count, n_i, w, w_at, x, x_at, start, start_at, y, y_at):
        for block in range(blocks):
            w_block, y_block = w_at + block * rows * by.w_row, y_at + block * rows * GROUP
            for c in range(count):
                at = 3 * (first + c)
                n_j, w_c, x_c = taps[at], taps[at + 1], taps[at + 2] * by.x_column
                sums = repeat(splat_row(start, start_at + block * rows, 1, rows), 2)
                for i in range(n_i):
                    for j in range(n_j):
                        w_j = w_block + w_c + i * by.w_i + j * by.w_j
                        x_j = x_at + x_c + i * by.x_i + j * by.x_j
                        for k in range(by.n_k):
                            weights = splat_row(w, w_j + k * by.w_k, by.w_row, rows)
                            sums = fma_outer(sums, weights, load_rows(x, x_j + k * GROUP, LANES, 2))
                store_rows(y, y_block + c * by.y_column, GROUP, sums, rows)

    return tile


_one_row, _two_rows, _four_rows, _six_rows = (_multiply_tile(rows) for rows in (1, 2, 4, 6))


@called
def multiply(rows, by, taps, first, count, n_i, w, w_at, x, x_at, start, start_at, y, y_at):
    """Sums of products for a row of pixels: forward passes and input gradients.

    With (n_j, w_c, x_c) = taps[first + c], for r < rows, c < count and lane l < `GROUP`:
    y[y_at + r GROUP + c y_column + l] = start[start_at + r] + sum over i < n_i, j < n_j, k < n_k of
    w[w_at + w_c + r w_row + i w_i + j w_j + k w_k] * x[x_at + x_c x_column + i x_i + j x_j + k GROUP + l].

    Args:
        rows: any number.
        by: n_k and the strides.
        taps: `integers` of a table of three columns.
        first: its row for the first pixel.
        count: pixels of the row.
        n_i: outer terms.
        w: left factors.
        w_at: index of the first.
        x: right factors.
        x_at: index of the first.
        start: where the sums start from.
        start_at: index of the first.
        y: result; may not overlap the factors.
        y_at: index of the first.
    """
    sixes, single = rows // 6, np.int64(1)  # not a literal, for which a tile would be compiled once more
    _six_rows(sixes, by, taps, first, count, n_i, w, w_at, x, x_at, start, start_at, y, y_at)
    r = 6 * sixes
    if rows - r >= 4:
        w_r, y_r = w_at + r * by.w_row, y_at + r * GROUP
        _four_rows(single, by, taps, first, count, n_i, w, w_r, x, x_at, start, start_at + r, y, y_r)
        r += 4
    if rows - r >= 2:
        w_r, y_r = w_at + r * by.w_row, y_at + r * GROUP
        _two_rows(single, by, taps, first, count, n_i, w, w_r, x, x_at, start, start_at + r, y, y_r)
        r += 2
    if rows - r == 1:
        w_r, y_r = w_at + r * by.w_row, y_at + r * GROUP
        _one_row(single, by, taps, first, count, n_i, w, w_r, x, x_at, start, start_at + r, y, y_r)


class PixelStrides(NamedTuple):
    """Strides, in floats, of the sums over pixels of `correlate`."""

    d_i: int
    d_j: int
    x_i: int
    x_j: int
    g_row: int
    g_column: int


def _correlate_tile(outputs: int, inputs: int) -> Callable:
    size = outputs * inputs

    @called
    def tile(o_blocks, c_blocks, by, n_i, n_j, d, d_at, x, x_at, g, g_at):
        for c_block in range(c_blocks):
            x_block, g_block = x_at + c_block * inputs * GROUP, g_at + c_block * inputs * by.g_column
            for o_block in range(o_blocks):
                d_block = d_at + o_block * outputs * GROUP
                sums = zeros(size)
                for i in range(n_i):
                    for j in range(n_j):
                        d_j, x_j = d_block + i * by.d_i + j * by.d_j, x_block + i * by.x_i + j * by.x_j
                        sums = fma_outer(sums, load_rows(d, d_j, GROUP, outputs), load_rows(x, x_j, GROUP, inputs))
                        d_j, x_j = d_j + LANES, x_j + LANES
                        sums = fma_outer(sums, load_rows(d, d_j, GROUP, outputs), load_rows(x, x_j, GROUP, inputs))
                add_lane_sums(g, g_block + o_block * outputs * by.g_row, by.g_row, by.g_column, sums, outputs)

    return tile


def _correlate_inputs(inputs: int) -> Callable:
    fours, ones = _correlate_tile(4, inputs), _correlate_tile(1, inputs)

    @merged
    def outputs_in_blocks(outputs, c_blocks, by, n_i, n_j, d, d_at, x, x_at, g, g_at):
        blocks = outputs // 4
        fours(blocks, c_blocks, by, n_i, n_j, d, d_at, x, x_at, g, g_at)
        done = 4 * blocks
        ones(outputs - done, c_blocks, by, n_i, n_j, d, d_at + done * GROUP, x, x_at, g, g_at + done * by.g_row)

    return outputs_in_blocks


_one_input, _two_inputs, _three_inputs = (_correlate_inputs(inputs) for inputs in (1, 2, 3))


@called
def correlate(outputs, inputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at):
    """Adds sums over pixels and examples of output gradient times input: gradients of weights.

    For o < outputs and c < inputs: g[g_at + o g_row + c g_column] += sum over i < n_i, j < n_j, l < `GROUP` of
    d[d_at + i d_i + j d_j + o GROUP + l] * x[x_at + i x_i + j x_j + c GROUP + l].

    Args:
        outputs: any number.
        inputs: any number.
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
    threes = (inputs - 2) // 3 if inputs % 3 == 1 and inputs > 1 else inputs // 3  # 2 + 2 inputs rather than 3 + 1
    twos = (inputs - 3 * threes) // 2
    _three_inputs(outputs, threes, by, n_i, n_j, d, d_at, x, x_at, g, g_at)
    c = 3 * threes
    _two_inputs(outputs, twos, by, n_i, n_j, d, d_at, x, x_at + c * GROUP, g, g_at + c * by.g_column)
    if inputs == 1:
        _one_input(outputs, inputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at)
