"""Exact ranks of many rows on a GPU by buckets, and the Wasserstein target that follows from them, in Triton.

A row is a weight matrix of a member. Its rank is found in three launches, the first of which the optimiser's update
shares (`insert` is inlined there):

1. insert: a monotone map, the distribution of an earlier step in `NUM_CELLS` cells of the float's own bits, sends each
   weight to one of about n / 160 buckets; an atomic counter gives it a slot there.
2. scan: counts become first ranks, and are zeroed for the next step.
3. rank: each bucket is sorted by a bitonic network of (value, index); q = Q0[first rank + position] is dealt out.

The map only balances buckets: ranks are exact whatever it is, because every operation of it is monotone under
rounding. A bucket with more than `CAPACITY` weights spills, and is then ranked by counting. Keys carry the index, and
all sums are of integers: no result depends on the order in which programs run. Nothing waits for another program or for
the host, and no launch depends on data, so that all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

import triton
import triton.language as tl

CAPACITY = 256  # slots of a bucket
MEAN = 160  # weights of a bucket where the map is right: it then spills at seven standard deviations
FULL = 240  # a bucket fuller than this asks for a new map
ROWS = 2  # buckets of a program of `rank_kernel`, one warp: 16 keys a lane, no shared memory, no barrier
SHIFT = 19  # a cell is a sixteenth of an octave: within it, distributions of weights are close to uniform
NUM_CELLS = 1 << (32 - SHIFT)
BLOCK = 1024  # weights, counters or cells that a program handles at once
UNROLL = 4  # spilled weights loaded at once, to be compared with
OPTIONS = {"enable_fp_fusion": False}  # the formulas as they are written, in every version of Triton

# Columns of the table of layers, int64 [L, 4].
_OFFSET = tl.constexpr(0)  # of the first weight in the member's parameters
_LENGTH = tl.constexpr(1)
_BUCKETS = tl.constexpr(2)
_FIRST_BUCKET = tl.constexpr(3)  # sum of the buckets of the layers before
LAYER_COLUMNS = 4
_COLUMNS = tl.constexpr(LAYER_COLUMNS)
_LAST = tl.constexpr(0x7FFFFFFFFFFFFFFF)


@triton.jit
def ordered(w):
    """Int32 in the order of the floats; -0.0 and 0.0 are equal."""
    bits = w.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    return tl.where(bits < 0, -magnitude, magnitude)


@triton.jit
def is_finite(w):
    """Whether a float is neither an infinity nor a NaN."""
    return (w.to(tl.int32, bitcast=True) & 0x7F800000) != 0x7F800000


@triton.jit
def cell_of(key, SHIFT: tl.constexpr):
    """Cell of the map that a key falls in."""
    return (key >> SHIFT) + (1 << (31 - SHIFT))


@triton.jit
def bucket_of(key, map_ptr, num_buckets, SHIFT: tl.constexpr):
    """The monotone map: cumulative distribution at the cell's edges, in units of buckets, linear between them."""
    cell = cell_of(key, SHIFT)
    low = tl.load(map_ptr + cell)
    high = tl.load(map_ptr + cell + 1)
    fraction = (key & ((1 << SHIFT) - 1)).to(tl.float32) * (1.0 / (1 << SHIFT))
    position = tl.minimum(low + fraction * (high - low), high)
    return tl.minimum(position.to(tl.int32), num_buckets - 1)


@triton.jit
def insert(
    w, index, mask, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr, num_buckets,
    CAPACITY: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """Puts weights into the buckets of their row, except those that are not finite. Pointers are those of the row.

    Args:
        w: new weights, any shape.
        index: int32, place of each within its row.
        mask: which of them to insert.
        map_ptr: float32 `[NUM_CELLS + 1]`.
        count_ptr: int32 `[num_buckets]`.
        slab_ptr: int64 `[num_buckets, CAPACITY]`.
        spill_ptr: int64 `[n]`.
        spill_bucket_ptr: int32 `[n]`.
        spill_count_ptr: int32 scalar.
        num_buckets: of the row.
        CAPACITY: slots of a bucket.
        SHIFT: of the map.
    """
    mask = mask & is_finite(w)
    key = tl.where(mask, ordered(w), 0)
    bucket = bucket_of(key, map_ptr, num_buckets, SHIFT)
    slot = tl.atomic_add(count_ptr + bucket, 1, mask=mask, sem="relaxed")
    packed = (key.to(tl.int64) << 32) | index.to(tl.int64)
    held = mask & (slot < CAPACITY)
    tl.store(slab_ptr + bucket * CAPACITY + slot, packed, mask=held)
    spilled = mask & (slot >= CAPACITY)
    slot = tl.atomic_add(spill_count_ptr + tl.zeros_like(bucket), 1, mask=spilled, sem="relaxed")
    tl.store(spill_ptr + slot, packed, mask=spilled)
    tl.store(spill_bucket_ptr + slot, bucket, mask=spilled)


@triton.jit
def layer_offset(layers_ptr, layer, ALIGNED: tl.constexpr):
    """Offset and length of a layer in the parameters of a member; ALIGNED: both are multiples of 4."""
    offset = tl.load(layers_ptr + _COLUMNS * layer + _OFFSET)
    length = tl.load(layers_ptr + _COLUMNS * layer + _LENGTH).to(tl.int32)
    if ALIGNED:
        offset = tl.multiple_of(offset, 4)
        length = tl.multiple_of(length, 4)
    return offset, length


@triton.jit
def layer_row(layers_ptr, layer, member, num_layers, member_buckets):
    """Number of buckets of a row, its first bucket and its own number among all rows."""
    num_buckets = tl.load(layers_ptr + _COLUMNS * layer + _BUCKETS).to(tl.int32)
    first = member * member_buckets + tl.load(layers_ptr + _COLUMNS * layer + _FIRST_BUCKET)
    return num_buckets, first, member * num_layers + layer


@triton.jit
def pull(w, q, factor):
    """Gradient of ``strength c (w - q)^2`` and the term itself over strength c; `factor` is 2 strength c."""
    distance = w - q
    return factor * distance, distance * distance


@triton.jit
def _exchange(x, AXIS: tl.constexpr, RUN: tl.constexpr):
    """Compare-exchange along an axis of length 2 of `[R, 2, ..., 2]`; pairs ascend where the axis RUN has index 0.

    The partner is the sum of both less oneself: exact modulo 2^64, and every reduction but the sum is slow in Triton's
    interpreter. RUN = 0 stands for the last merge, which ascends everywhere.
    """
    partner = tl.sum(x, axis=AXIS, keep_dims=True) - x
    shape: tl.constexpr = [1] * AXIS + [2] + [1] * (len(x.shape) - AXIS - 1)
    upper = tl.reshape(tl.arange(0, 2), shape) == 1
    if RUN > 0:
        run_shape: tl.constexpr = [1] * RUN + [2] + [1] * (len(x.shape) - RUN - 1)
        upper = upper ^ (tl.reshape(tl.arange(0, 2), run_shape) == 1)
    return tl.where((x > partner) ^ upper, partner, x)


@triton.jit
def sort_rows(x, ROWS: tl.constexpr, LOG: tl.constexpr):
    """Sorts the rows of int64 `[ROWS, 2^LOG]`, ascending, by a bitonic network."""
    y = tl.reshape(x, [ROWS] + [2] * LOG)
    for merge in tl.static_range(1, LOG + 1):
        for step in tl.static_range(0, merge):
            # Axis 1 is the highest bit of the position, axis LOG the lowest.
            y = _exchange(y, LOG - merge + 1 + step, LOG - merge)
    return tl.reshape(y, [ROWS, 1 << LOG])


@triton.jit
def histogram_kernel(
    w_ptr, layers_ptr, tiles_ptr, histogram_ptr, member_stride, num_layers,
    NUM_CELLS: tl.constexpr, SHIFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Counts the weights of every cell, for the first map of a row: program (tile of a layer, member)."""
    layer = tl.load(tiles_ptr + 2 * tl.program_id(0))
    index = tl.load(tiles_ptr + 2 * tl.program_id(0) + 1) * BLOCK + tl.arange(0, BLOCK)
    member = tl.program_id(1).to(tl.int64)
    offset, length = layer_offset(layers_ptr, layer, False)
    inside = index < length
    w = tl.load(w_ptr + member * member_stride + offset + index, mask=inside, other=0.0)
    mask = inside & is_finite(w)
    cell = cell_of(tl.where(mask, ordered(w), 0), SHIFT)
    tl.atomic_add(histogram_ptr + (member * num_layers + layer) * NUM_CELLS + cell, 1, mask=mask, sem="relaxed")


@triton.jit
def insert_kernel(
    w_ptr, layers_ptr, tiles_ptr, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr,
    member_stride, num_layers, member_buckets,
    CAPACITY: tl.constexpr, NUM_CELLS: tl.constexpr, SHIFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Launch 1 where no update inserts: program (tile of a layer, member)."""
    layer = tl.load(tiles_ptr + 2 * tl.program_id(0))
    index = tl.load(tiles_ptr + 2 * tl.program_id(0) + 1) * BLOCK + tl.arange(0, BLOCK)
    member = tl.program_id(1).to(tl.int64)
    offset, length = layer_offset(layers_ptr, layer, False)
    num_buckets, bucket, row = layer_row(layers_ptr, layer, member, num_layers, member_buckets)
    start = member * member_stride + offset
    inside = index < length
    w = tl.load(w_ptr + start + index, mask=inside, other=0.0)
    insert(
        w, index, inside, map_ptr + row * (NUM_CELLS + 1), count_ptr + bucket, slab_ptr + bucket * CAPACITY,
        spill_ptr + start, spill_bucket_ptr + start, spill_count_ptr + row, num_buckets, CAPACITY, SHIFT,
    )  # fmt: skip


@triton.jit
def new_map(map_ptr, histogram_ptr, num_buckets, length, NUM_CELLS: tl.constexpr, BLOCK: tl.constexpr):
    """Makes the map of a row from its histogram, which it zeroes."""
    scale = num_buckets.to(tl.float32) / length.to(tl.float32)
    below = 0
    tl.store(map_ptr, 0.0)
    for start in range(0, NUM_CELLS, BLOCK):
        here = start + tl.arange(0, BLOCK)
        count = tl.load(histogram_ptr + here)
        tl.debug_barrier()  # a thread may zero what another has yet to read
        tl.store(histogram_ptr + here, 0)
        tl.store(map_ptr + here + 1, (below + tl.cumsum(count, 0)).to(tl.float32) * scale)
        below += tl.sum(count, 0)


@triton.jit
def scan_kernel(
    layers_ptr, count_ptr, base_ptr, spill_base_ptr, spill_count_ptr, spilled_ptr, map_ptr, histogram_ptr,
    refresh_ptr, ranked_ptr, num_layers, member_buckets,
    CAPACITY: tl.constexpr, FULL: tl.constexpr, NUM_CELLS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Launch 2: first ranks of the buckets of a row; program (layer, member).

    Also readies the next step. Counters are zeroed. A bucket with more than FULL weights asks the rank kernel for a
    histogram; one that was asked for at the step before becomes the new map.
    """
    layer = tl.program_id(0)
    member = tl.program_id(1).to(tl.int64)
    _, length = layer_offset(layers_ptr, layer, False)
    num_buckets, bucket, row = layer_row(layers_ptr, layer, member, num_layers, member_buckets)
    base_ptr += bucket + row  # one more than buckets in every row
    spill_base_ptr += bucket
    count_ptr += bucket
    total = 0
    spilled = 0
    fullest = 0
    refresh = tl.load(refresh_ptr + row)
    for start in range(0, num_buckets, BLOCK):
        here = start + tl.arange(0, BLOCK)
        inside = here < num_buckets
        count = tl.load(count_ptr + here, mask=inside, other=0)
        excess = tl.maximum(count - CAPACITY, 0)
        tl.debug_barrier()  # a thread may zero what another has yet to read
        tl.store(count_ptr + here, 0, mask=inside)
        tl.store(base_ptr + here, total + tl.cumsum(count, 0) - count, mask=inside)
        tl.store(spill_base_ptr + here, spilled + tl.cumsum(excess, 0) - excess, mask=inside)
        total += tl.sum(count, 0)
        spilled += tl.sum(excess, 0)
        fullest = tl.maximum(fullest, tl.max(count, 0))
    tl.store(base_ptr + num_buckets, total)
    tl.store(ranked_ptr + row, (total == length).to(tl.int32))
    tl.store(spilled_ptr + row, spilled)
    tl.store(spill_count_ptr + row, 0)
    tl.debug_barrier()  # every thread has read `refresh`
    if refresh != 0:
        new_map(map_ptr + row * (NUM_CELLS + 1), histogram_ptr + row * NUM_CELLS, num_buckets, length, NUM_CELLS, BLOCK)
        tl.store(refresh_ptr + row, 0)
    else:
        tl.store(refresh_ptr + row, ((total == length) & (fullest > FULL)).to(tl.int32))


@triton.jit
def _rank_by_counting(
    x, bucket, mask, init_ptr, q_ptr, base_ptr, spill_base_ptr, slab_ptr, spill_ptr, spilled,
    CAPACITY: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Targets of weights `[N]` of full buckets: counts who comes before them in the slab and among the spilled.

    All that spilled from buckets before comes before, too, and is in the first rank already.
    """
    rank = tl.load(base_ptr + bucket, mask=mask, other=0) - tl.load(spill_base_ptr + bucket, mask=mask, other=0)
    for slot in range(0, CAPACITY):
        other = tl.load(slab_ptr + bucket * CAPACITY + slot, mask=mask, other=_LAST)
        rank += (other < x).to(tl.int32)
    for start in range(0, spilled, UNROLL):
        for i in tl.static_range(UNROLL):
            other = tl.load(spill_ptr + start + i, mask=start + i < spilled, other=_LAST)
            rank += (other < x).to(tl.int32)
    target = tl.load(init_ptr + rank, mask=mask, other=0.0)
    tl.store(q_ptr + (x & 0xFFFFFFFF), target, mask=mask)


@triton.jit
def rank_kernel(
    init_ptr, q_ptr, layers_ptr, tiles_ptr, base_ptr, spill_base_ptr, slab_ptr, spill_ptr, spill_bucket_ptr,
    spilled_ptr, histogram_ptr, refresh_ptr, member_stride, num_layers, member_buckets,
    ROWS: tl.constexpr, CAPACITY: tl.constexpr, LOG_CAPACITY: tl.constexpr,
    NUM_CELLS: tl.constexpr, SHIFT: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Launch 3: q = Q0[rank(w)]; program (ROWS buckets of a layer, member). A row that is not whole keeps its q."""
    layer = tl.load(tiles_ptr + 2 * tl.program_id(0))
    tile = tl.load(tiles_ptr + 2 * tl.program_id(0) + 1)
    member = tl.program_id(1).to(tl.int64)
    offset, length = layer_offset(layers_ptr, layer, False)
    offset += member * member_stride
    num_buckets, first_bucket, row = layer_row(layers_ptr, layer, member, num_layers, member_buckets)
    base_ptr += first_bucket + row
    slab_ptr += first_bucket * CAPACITY
    spill_base_ptr += first_bucket
    init_ptr += offset
    q_ptr += offset
    spill_ptr += offset
    spill_bucket_ptr += offset
    histogram_ptr += row * NUM_CELLS
    if tl.load(base_ptr + num_buckets) != length:
        return
    bucket = tile * ROWS + tl.arange(0, ROWS)
    base = tl.load(base_ptr + bucket, mask=bucket < num_buckets, other=0)
    count = tl.load(base_ptr + bucket + 1, mask=bucket < num_buckets, other=0) - base
    slot = tl.arange(0, CAPACITY)[None, :]
    held = slot < count[:, None]
    x = tl.load(slab_ptr + bucket[:, None] * CAPACITY + slot, mask=held, other=_LAST)
    x = sort_rows(x, ROWS, LOG_CAPACITY)
    sorted_here = held & (count[:, None] <= CAPACITY)
    target = tl.load(init_ptr + base[:, None] + slot, mask=sorted_here, other=0.0)
    tl.store(q_ptr + (x & 0xFFFFFFFF), target, mask=sorted_here)
    refresh = tl.load(refresh_ptr + row) != 0
    if refresh:
        cell = cell_of((x >> 32).to(tl.int32), SHIFT)
        tl.atomic_add(histogram_ptr + cell, 1, mask=held, sem="relaxed")
    spilled = tl.load(spilled_ptr + row)
    if spilled == 0:
        return
    lane = tl.arange(0, CAPACITY)
    for i in range(0, ROWS):
        full = tile * ROWS + i
        low = tl.load(base_ptr + full, mask=full < num_buckets, other=0)
        if tl.load(base_ptr + full + 1, mask=full < num_buckets, other=0) - low > CAPACITY:
            packed = tl.load(slab_ptr + full * CAPACITY + lane)
            _rank_by_counting(
                packed, full + tl.zeros_like(lane), lane >= 0, init_ptr, q_ptr, base_ptr, spill_base_ptr, slab_ptr,
                spill_ptr, spilled, CAPACITY, UNROLL,
            )  # fmt: skip
    # The spilled weights of the row are shared out among its programs.
    for start in range(tile * CAPACITY, spilled, tl.cdiv(num_buckets, ROWS) * CAPACITY):
        mask = start + lane < spilled
        packed = tl.load(spill_ptr + start + lane, mask=mask, other=_LAST)
        home = tl.load(spill_bucket_ptr + start + lane, mask=mask, other=0)
        if refresh:
            tl.atomic_add(histogram_ptr + cell_of((packed >> 32).to(tl.int32), SHIFT), 1, mask=mask, sem="relaxed")
        _rank_by_counting(
            packed, home, mask, init_ptr, q_ptr, base_ptr, spill_base_ptr, slab_ptr, spill_ptr, spilled,
            CAPACITY, UNROLL,
        )  # fmt: skip


@triton.jit
def pull_kernel(w_ptr, q_ptr, factor_ptr, gradient_ptr, partial_ptr, length, BLOCK: tl.constexpr):
    """Gradient factor_m (w - q) and sums of (w - q)^2 of blocks; program (block, member) of rows of one length."""
    member = tl.program_id(1).to(tl.int64)
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < length
    w = tl.load(w_ptr + member * length + index, mask=inside, other=0.0)
    q = tl.load(q_ptr + member * length + index, mask=inside, other=0.0)
    gradient, square = pull(w, q, tl.load(factor_ptr + member))
    tl.store(gradient_ptr + member * length + index, gradient, mask=inside)
    tl.store(partial_ptr + member * tl.num_programs(0) + tl.program_id(0), tl.sum(square, 0))
