"""The product of the first dense layer, from the examples' rows: with all pixels, or without those that are zero.

A row of weights holds all outputs of a pixel, in the lanes. No sum crosses lanes, and a product with zero changes
nothing but the sign of a zero: sums end with + 0, so both ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

from fastplast_kernels.compilation import called, inlined
from fastplast_kernels.train_step.cpu.inputs import stride
from fastplast_kernels.train_step.cpu.simd import LANES, has_wide_registers, load, splat, store
from fastplast_kernels.train_step.cpu.tuples import fma_outer, load_rows, splat_row, store_rows

_EXAMPLES = 8 if has_wide_registers() else 4  # of a tile, one vector each
_VECTORS = 8 if has_wide_registers() else 4  # of a tile of one example
_STRIP = 8192  # weights that stay in the first-level cache: 32 KiB


@called
def block_of(outputs):
    """Pixels whose weights stay in the first-level cache together."""
    return max(LANES, _STRIP // outputs // LANES * LANES)


def _all_pixels(count: int) -> Callable:
    @called
    def tile(begin, end, o, first, last, w, weight, row, x, x_row, y):
        for b in range(begin, end, count):
            sums = load_rows(y, b * row + o, row, count)
            for i in range(first, last):
                sums = fma_outer(
                    sums, splat_row(x, b * x_row + i, x_row, count), load_rows(w, weight + i * row + o, LANES, 1)
                )
            store_rows(y, b * row + o, row, sums)

    return tile


_many_examples, _one_example = _all_pixels(_EXAMPLES), _all_pixels(1)


def _nonzero_pixels(count: int) -> Callable:
    @inlined
    def tile(b, o, begin, end, pixels, w, weight, row, x, x_row, y):
        sums = load_rows(y, b * row + o, LANES, count)
        for n in range(begin, end):
            i = pixels[n]
            sums = fma_outer(sums, splat_row(x, b * x_row + i, 0, 1), load_rows(w, weight + i * row + o, LANES, count))
        store_rows(y, b * row + o, LANES, sums)

    return tile


_many_vectors, _one_vector = _nonzero_pixels(_VECTORS), _nonzero_pixels(1)


@called
def forward_pixels(layer, sparse, w, x, batch, pixels, room, ends, y):
    """Forward pass, y = x W + b, before the activation.

    Args:
        layer: the layer.
        sparse: whether zeros are left out.
        w: `pointer` to the parameters.
        x: `pointer` to the examples, `[B, stride(I)]`.
        batch: B.
        pixels: `pointer` to the lists of `find_nonzero`, if sparse.
        room: of an example's list.
        ends: of `find_nonzero`.
        y: `pointer` to the result, `[B, row]`.
    """
    row, inputs, x_row, block = layer.row, layer.channels, stride(layer.channels), block_of(layer.row)
    for b in range(batch):
        for o in range(0, row, LANES):
            store(y, b * row + o, load(w, layer.bias + o))
    wide, examples = row - row % (_VECTORS * LANES), batch - batch % _EXAMPLES
    for first in range(0, inputs, block):
        if sparse:
            for b in range(batch):
                begin, end = b * room + ends[b, first // block], b * room + ends[b, first // block + 1]
                for o in range(0, wide if begin < end else 0, _VECTORS * LANES):
                    _many_vectors(b, o, begin, end, pixels, w, layer.weight, row, x, x_row, y)
                for o in range(wide, row if begin < end else 0, LANES):
                    _one_vector(b, o, begin, end, pixels, w, layer.weight, row, x, x_row, y)
        else:
            last = min(first + block, inputs)
            for o in range(0, row, LANES):
                _many_examples(0, examples, o, first, last, w, layer.weight, row, x, x_row, y)
                _one_example(examples, batch, o, first, last, w, layer.weight, row, x, x_row, y)
    for k in range(0, batch * row, LANES):
        store(y, k, load(y, k) + splat(0.0))
