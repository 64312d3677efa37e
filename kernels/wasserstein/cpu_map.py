"""A monotone map from the floats of a row to buckets of nearly equal size, drawn from a sample of the row.

A float is ordered by an integer key of its bits. The span of the keys is cut into equal cells, cells into buckets, as
many as the cell's share of the sample asks for. Inside a cell the map is linear.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called

i32, i64, u32, u64 = np.int32, np.int64, np.uint32, np.uint64

CELL_BITS = 12  # the map is linear inside each of 4096 cells of the key: an eighth of an octave on a row around zero
CELLS = 1 << CELL_BITS
FRACTION_BITS = 32 - CELL_BITS
SAMPLES = 4096
ENOUGH, NEIGHBOURS = 8, 8  # samples of a cell that tell how full it is; cells that tell where these are fewer
MAGNITUDE = i32(0x7FFFFFFF)
LEAST, GREATEST = i32(-0x80000000), i32(0x7FFFFFFF)  # beyond every key


@called
def key_of(bits):
    """Integer that orders as the float with these bits does; -0.0 and 0.0 share one."""
    sign = i32(bits >> i32(31))
    return i32(i32(i32(bits & MAGNITUDE) ^ sign) - sign)


@called
def _weigh(table, weight):
    """Writes how many buckets each cell deserves, in any unit, from its samples; returns the sum.

    Where values spread over most of the cells, a cell has one sample or so, by chance none: then half of its weight is
    from its neighbours, not more than they could tell by themselves.
    """
    total = u32(0)
    for first in range(0, CELLS, NEIGHBOURS):
        together = u32(0)
        for cell in range(first, first + NEIGHBOURS):
            together += table[cell]
        near = min(together // u32(NEIGHBOURS), u32(ENOUGH))
        for cell in range(first, first + NEIGHBOURS):
            own = table[cell]
            weight[cell] = own + (own if own >= u32(ENOUGH) else near)
            total += weight[cell]
    return total


@called
def make_map(bits, sample, table, weight, buckets):
    """Writes the map from keys to buckets: `table[cell] = first bucket << 16 | number of buckets`.

    `sample` and `weight` are scratch.

    Returns:
        `low`, `high`, `scale`: a key is clamped to `low..high`, and `(key - low) * scale` fills 32 bits: the cell on
        top, how far into the cell below.
    """
    n, drawn = bits.size, 0
    low, high = GREATEST, LEAST
    for i in range(0, n, max(1, n // SAMPLES)):
        sample[drawn] = key_of(bits[i])
        drawn += 1
    for i in range(drawn):
        low, high = min(low, sample[i]), max(high, sample[i])
    # The span doubles until it covers the sample and a margin: 2**(32 - shift) keys, centred.
    shift, middle = 31, (i64(low) + i64(high)) // 2
    while shift > 0 and (i64(1) << (32 - shift)) < (i64(high) - i64(low)) * 9 // 8 + 1:
        shift -= 1
    first = max(middle - (i64(1) << (31 - shift)), i64(-2147483648))
    first = min(first, i64(2147483648) - (i64(1) << (32 - shift)))
    low, high = i32(first), i32(first + (i64(1) << (32 - shift)) - 1)
    scale = u32(i64(1) << shift)
    for cell in range(CELLS):
        table[cell] = u32(0)
    for i in range(drawn):
        cell = u32(u32(max(min(sample[i], high), low) - low) * scale) >> u32(FRACTION_BITS)
        table[u64(cell)] += u32(1)
    share = np.float64(buckets - CELLS) / _weigh(table, weight)
    below, start = i64(0), i64(0)
    for cell in range(CELLS):
        below += i64(weight[cell])
        end = i64(below * share) + cell + 1
        table[cell] = u32((start << 16) | (end - start))
        start = end
    return low, high, scale
