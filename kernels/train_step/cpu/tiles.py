"""Register tiles: the inner loops, in which every load feeds several products.

A group of sixteen examples is innermost, so that a vector holds one feature of a group. Each output, and each gradient
of a weight, is one chain of products in the order of the loops, whatever tile it is part of: the sizes of tiles follow
the registers of a CPU and change no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.train_step.cpu.simd import LANES, has_wide_registers, pointer, splat, store
from fastplast_kernels.train_step.cpu.tuples import (
    add_rows,
    fma_outer,
    load_rows,
    splat_row,
    store_rows,
    transpose,
    zeros,
)

GROUP = LANES  # examples that are stored side by side: a cache line, one vector

# Sums of a tile: eight need sixteen registers of AVX2, which there are with what is multiplied on its way from memory.
_SIZES = (8, 4, 2, 1) if has_wide_registers() else (6, 4, 2, 1)


class Strides(NamedTuple):
    """Inner length and strides, in floats, of the sums of `multiply`."""

    n_k: int
    w_row: int
    w_column: int
    w_i: int
    w_j: int
    w_k: int
    x_column: int
    x_i: int
    x_j: int
    y_column: int


def _in_blocks(make_tile: Callable) -> Callable:
    """Whatever number of sums by tiles of fixed sizes: as many as there are of the largest, then the others."""
    first, second, third, last = (make_tile(size) for size in _SIZES)
    large, medium, small, _ = _SIZES

    @merged
    def blocks(count, arguments):
        done = count // large * large
        first(np.int64(0), done, arguments)  # a literal would have the tile compiled once more
        if count - done >= medium:
            second(done, done + medium, arguments)
            done += medium
        if count - done >= small:
            third(done, done + small, arguments)
            done += small
        last(done, count, arguments)

    return blocks


def _multiply_tile(rows: int) -> Callable:
    @called
    def tile(begin, end, arguments):
        by, taps, first, count, n_i, w, w_at, x, x_at, start, start_at, y, y_at = arguments
        for row in range(begin, end, rows):
            w_block, y_block = w_at + row * by.w_row, y_at + row * GROUP
            for c in range(count):
                at = 3 * (first + c)
                n_j, w_c, x_c = taps[at], taps[at + 1] * by.w_column, taps[at + 2] * by.x_column
                sums = splat_row(start, start_at + row, 1, rows)
                for i in range(n_i):
                    for j in range(n_j):
                        w_j = w_block + w_c + i * by.w_i + j * by.w_j
                        x_j = x_at + x_c + i * by.x_i + j * by.x_j
                        for k in range(by.n_k):
                            weights = splat_row(w, w_j + k * by.w_k, by.w_row, rows)
                            sums = fma_outer(sums, weights, load_rows(x, x_j + k * GROUP, LANES, 1))
                store_rows(y, y_block + c * by.y_column, GROUP, sums)

    return tile


_multiply = _in_blocks(_multiply_tile)


@called
def multiply(rows, by, taps, first, count, n_i, w, w_at, x, x_at, start, start_at, y, y_at):
    """Sums of products for a row of pixels: forward passes and input gradients.

    With (n_j, w_c, x_c) = taps[first + c], for r < rows, c < count and lane l < `GROUP`:
    y[y_at + r GROUP + c y_column + l] = start[start_at + r] + sum over i < n_i, j < n_j, k < n_k of
    w[w_at + w_c w_column + r w_row + i w_i + j w_j + k w_k] * x[x_at + x_c x_column + i x_i + j x_j + k GROUP + l].

    Args:
        rows: any number.
        by: n_k and the strides.
        taps: `pointer` to a table of three columns.
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
    _multiply(rows, (by, taps, first, count, n_i, w, w_at, x, x_at, start, start_at, y, y_at))


class PixelStrides(NamedTuple):
    """Strides, in floats, of the sums over pixels of `correlate`."""

    d_i: int
    d_j: int
    d_example: int
    x_i: int
    x_j: int
    g_input: int


def _correlate_tile(inputs: int) -> Callable:
    @called
    def tile(begin, end, arguments):
        outputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at = arguments
        for c in range(begin, end, inputs):
            for o in range(0, outputs, LANES):
                at = g_at + c * by.g_input + o
                for i in range(n_i):
                    sums = zeros(inputs)
                    for j in range(n_j):
                        d_j, x_j = d_at + o + i * by.d_i + j * by.d_j, x_at + c * GROUP + i * by.x_i + j * by.x_j
                        for e in range(GROUP):
                            factors = splat_row(x, x_j + e, GROUP, inputs)
                            sums = fma_outer(sums, factors, load_rows(d, d_j + e * by.d_example, LANES, 1))
                    add_rows(g, at, by.g_input, sums)

    return tile


_correlate = _in_blocks(_correlate_tile)


@called
def correlate(inputs, outputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at):
    """Adds sums over pixels and examples of output gradient times input: gradients of weights, outputs in the lanes.

    Each row of pixels is a chain of its own, which keeps rounding errors small.

    For c < inputs and o < outputs, which is rounded up to whole vectors: g[g_at + c g_input + o] += sum over i < n_i,
    j < n_j, e < `GROUP` of d[d_at + i d_i + j d_j + e d_example + o] * x[x_at + i x_i + j x_j + c GROUP + e].

    Args:
        inputs: any number.
        outputs: any number.
        by: the strides.
        n_i: rows of pixels.
        n_j: pixels of a row.
        d: gradients with respect to outputs, turned by `turn`.
        d_at: index of the first.
        x: inputs.
        x_at: index of the first.
        g: gradients of weights.
        g_at: index of the first.
    """
    _correlate(inputs, (outputs, by, n_i, n_j, d, d_at, x, x_at, g, g_at))


@called
def transpose_matrix(source, at, stride, rows, columns, target, to, target_stride):
    """Writes the transpose, target[to + c * target_stride + r] = source[at + r * stride + c].

    Args:
        source: flat array.
        at: index of the first element.
        stride: floats from one row to the next.
        rows: of the source.
        columns: of the source.
        target: flat array.
        to: index of the first element.
        target_stride: floats from one row of the result to the next.
    """
    whole_rows, whole_columns = rows - rows % LANES, columns - columns % LANES
    for r in range(0, whole_rows, LANES):
        for c in range(0, whole_columns, LANES):
            tile = transpose(load_rows(source, at + r * stride + c, stride, LANES))
            store_rows(target, to + c * target_stride + r, target_stride, tile)
    for r in range(rows):
        for c in range(whole_columns if r < whole_rows else 0, columns):
            target[to + c * target_stride + r] = source[at + r * stride + c]


@called
def turn(images, at, channels, target, to, width):
    """Turns a pixel of a group, `[channels, GROUP]`, to `[GROUP, width]`, with zeros after the channels."""
    whole = channels - channels % LANES
    for o in range(0, whole, LANES):
        store_rows(target, to + o, width, transpose(load_rows(images, at + o * GROUP, GROUP, LANES)))
    if whole < channels:
        for e in range(GROUP):
            store(target, to + e * width + whole, splat(0.0))
            for o in range(whole, channels):
                target[to + e * width + o] = images[at + o * GROUP + e]


@called
def clear(values, at, length):
    """Writes zeros; ``length`` is rounded up to whole vectors."""
    values = pointer(values)
    for k in range(at, at + length, LANES):
        store(values, k, splat(0.0))
