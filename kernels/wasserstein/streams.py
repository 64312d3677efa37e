"""Ranks of a long row by streams, where a map made for an earlier row still fits.

1. Each value is appended to one of some hundred buckets, whose ends alone are written to: they stay in the first-level
   cache, where buckets of `cpu` are all over the second. `where` keeps the place of each value.
2. A bucket of about 200 values fits a sorting network, as words of key and number in the bucket; targets of its ranks
   take the place of its keys.
3. The target of each value is read back from its place, in the order of the index: the same streams again.

The map from values to buckets is made from all values of a row, which takes a third of the time of ranking it, and
remains in the scratch. Weights change little from update to update and are alike from member to member, so that it
fits many rows. It decides how full buckets become, never a rank: where it fits no more, a bucket is too large and the
row is ranked as by `cpu`.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.wasserstein.cpu_map import MAGNITUDE, key_of
from fastplast_kernels.wasserstein.cpu_small import targets_of
from fastplast_kernels.wasserstein.network import LANES, ROWS, WORDS, sort_columns

i32, i64, u32, u64, f32, f64 = np.int32, np.int64, np.uint32, np.uint64, np.float32, np.float64

MEAN = 200  # values per bucket
ROOM = 512  # values that a bucket can hold
STEP = ROOM + 16  # from bucket to bucket: a multiple of 1 KiB would put all ends into a few sets of the cache
SHORTEST, LONGEST = 16_384, 200_000  # rows that are ranked so; buckets of a longer one are too many
CELLS, INSIDE = 4096, 12  # of the map, equal ones between the ends of the row; bits that tell how far into a cell
UNIT = 64  # steps of the map per bucket
BLOCK = 2048  # values per pass through the first-level cache
PAUSE = 64  # rows ranked in the other way before a map is tried again
MOST = LONGEST // MEAN

SIZE, WAIT, SCALE, OFFSET, TABLE = 1, 2, 3, 4, 16  # of a state, whose first word is the sum of all others
STATE = TABLE + CELLS  # words that stay from row to row

_LAST = f32(CELLS * 2**INSIDE - 2)
_LOW, _HIGH, _ROOM, _STEP = u64(0xFFFFFFFF), u64(32), u64(ROOM - 1), u64(STEP)
_PAD = u32(0xFFFFFFFF)  # not below any word
_INFINITY = i32(0x7F800000)


@called
def _sum_of(state):
    total = u32(0x9E3779B9)
    for i in range(1, STATE):
        total = u32(total + state[i])
    return total


@called
def _spread(bits, scale, offset, spread):
    """Place of each value between the ends, in 24 bits. Returns the largest magnitude, as bits."""
    values, top = bits.view(np.float32), i32(0)
    for i in range(bits.size):
        top = max(top, i32(bits[i] & MAGNITUDE))
        spread[i] = u32(i32(min(max(values[i] * scale + offset, f32(0)), _LAST)))
    return top


@called
def _make_map(bits, state, spread):
    """Makes the map from all values. False where a cell has many: values may be equal there."""
    values, n = bits.view(np.float32), bits.size
    low, high = values[0], values[0]
    for i in range(n):
        low, high = min(low, values[i]), max(high, values[i])
    width = (f64(high) - f64(low)) * 1.02
    if not 1e-30 < width < 1e30:
        return False
    scale = f32(f64(_LAST) / width)
    offset = f32((0.01 * width / 1.02 - f64(low)) * f64(scale))
    table = state[TABLE:]
    for cell in range(CELLS):
        table[cell] = u32(0)
    for begin in range(0, n, BLOCK):
        block = bits[begin : begin + BLOCK]
        if _spread(block, scale, offset, spread) >= _INFINITY:
            return False
        for i in range(block.size):
            table[u64(spread[i] >> u32(INSIDE))] += u32(1)
    below, start, largest = i64(0), i64(0), u32(0)
    for cell in range(CELLS):
        largest = max(largest, table[cell])
        below += i64(table[cell]) + 1
        end = below * (n // MEAN * UNIT - 1) // (n + CELLS)
        table[cell] = u32((start << 16) | (end - start))
        start = end
    parts = state.view(np.float32)
    parts[SCALE], parts[OFFSET] = scale, offset
    return largest <= u32(4 * ROOM)


@called
def _append(bits, state, count, where, slab, key, spread):
    """Appends the keys to their buckets, round and round where one is full. False at a NaN or an infinity."""
    parts, table = state.view(np.float32), state[TABLE:]
    scale, offset = parts[SCALE], parts[OFFSET]
    for begin in range(0, bits.size, BLOCK):
        block = bits[begin : begin + BLOCK]
        m = block.size
        pairs = (m + 1) // 2
        if _spread(block, scale, offset, spread) >= _INFINITY:
            return False
        for i in range(m):
            key[i] = u32(key_of(block[i]))
        cell2, key2 = spread[: 2 * pairs].view(np.uint64), key[: 2 * pairs].view(np.uint64)
        cell = spread[BLOCK : BLOCK + 2 * pairs]
        found2, place2 = cell.view(np.uint64), where[begin : begin + m // 2 * 2].view(np.uint64)
        for i in range(pairs):
            both = cell2[i] >> u64(INSIDE)
            found2[i] = u64(table[both & u64(CELLS - 1)]) | (u64(table[(both >> _HIGH) & u64(CELLS - 1)]) << _HIGH)
        for i in range(m):
            inside = u32((spread[i] & u32((1 << INSIDE) - 1)) * (cell[i] & u32(0xFFFF))) >> u32(INSIDE)
            cell[i] = u32((cell[i] >> u32(16)) + inside) >> u32(6)
        for i in range(m // 2):
            both, keys = found2[i], key2[i]
            one, two = both & _LOW, both >> _HIGH
            slot = u64(count[one])
            count[one] = u32(slot) + u32(1)
            next_slot = u64(count[two])
            count[two] = u32(next_slot) + u32(1)
            place, next_place = one * _STEP + (slot & _ROOM), two * _STEP + (next_slot & _ROOM)
            slab[place] = u32(keys)
            slab[next_place] = u32(keys >> _HIGH)
            place2[i] = place | (next_place << _HIGH)
        if m % 2 == 1:
            one = u64(cell[m - 1])
            slot = u64(count[one])
            count[one] = u32(slot) + u32(1)
            place = one * _STEP + (slot & _ROOM)
            slab[place] = key[m - 1]
            where[begin + m - 1] = u32(place)
    return True


@called
def _pack(key, size, word):
    """Makes words of key and number in the bucket, to be sorted as one. False where keys span more than 24 bits."""
    least, greatest = key[0], key[0]
    for i in range(size):
        least, greatest = min(least, key[i]), max(greatest, key[i])
    for i in range(WORDS):
        packed = u32(u32(u32(key[i] - least) << u32(8)) | u32(i))
        word[i] = packed if i < size else _PAD
    return i64(greatest) - i64(least) < 1 << 24


@called
def _give_targets(word, sorted_word, target):
    """Writes the targets of sorted words, column after column, to the words' places in the bucket."""
    size = sorted_word.size
    for column in range(size // ROWS):
        part = sorted_word[column * ROWS : column * ROWS + ROWS]
        for row in range(ROWS):
            target[u64(word[row * LANES + column] & u32(0xFF))] = part[row]
    column = size // ROWS
    for row in range(size % ROWS):
        target[u64(word[row * LANES + column] & u32(0xFF))] = sorted_word[column * ROWS + row]


@called
def rank_in_streams(bits, sorted_word, where, state, room):
    """Ranks a row, if a map fits.

    Args:
        bits: row `[n]`, int32.
        sorted_word: ascending initial weights `[n]`, as uint32.
        where: output, uint32 `[n]`.
        state: uint32 `[STATE]`, of an earlier row or anything.
        room: scratch, uint32 `[>= 5 n]`.

    Returns:
        Whether it was ranked: then the target of value i is `room[where[i]]`.
    """
    n = bits.size
    buckets = n // MEAN
    slab, rest = room[: buckets * STEP], room[buckets * STEP :]
    count, rest = rest[:buckets], rest[MOST:]
    key, spread, rest = rest[:BLOCK], rest[BLOCK : 3 * BLOCK], rest[3 * BLOCK :]
    word, order, other = rest[:WORDS], rest[WORDS : WORDS + ROOM], rest[WORDS + ROOM : WORDS + 2 * ROOM]
    is_known = state[SIZE] == u32(n) and state[0] == _sum_of(state)
    if is_known and state[WAIT] > u32(0):
        state[WAIT] -= u32(1)
        state[0] = _sum_of(state)
        return False
    ok, is_new, large = False, not is_known, 0
    while not ok and (not is_new or _make_map(bits, state, spread)):
        for bucket in range(buckets):
            count[bucket] = u32(0)
        ok = _append(bits, state, count, where, slab, key, spread)
        large, largest = 0, u32(0)
        for bucket in range(buckets):
            large += count[bucket] > u32(WORDS)
            largest = max(largest, count[bucket])
        ok = ok and largest <= u32(ROOM)
        if is_new:
            break
        is_new = True
    is_worn = ok and large * 32 > buckets
    state[SIZE], state[WAIT] = u32(0 if is_worn else n), u32(0 if ok else PAUSE)
    state[0] = _sum_of(state)
    if not ok:
        return False
    begin = 0
    for bucket in range(buckets):
        size = i64(count[bucket])
        target, part = slab[bucket * STEP : bucket * STEP + ROOM], sorted_word[begin : begin + size]
        own = target.view(np.int32)
        begin += size
        if 0 < size <= WORDS and _pack(own, size, word):
            sort_columns(word)
            _give_targets(word, part, target)
        elif size > 0:
            keys = spread[:size].view(np.int32)
            for i in range(size):
                keys[i] = own[i]
            targets_of(keys, part, target[:size], order, other, key)
    return True
