"""Exact ranks of float32 rows and the Wasserstein target, on the CPU with Numba.

A long row is ranked by `streams` where it can be. Any other is ranked by a bucket sort without a branch that depends on
values:

1. A sample of the row gives its approximate distribution: a piecewise linear, monotone map from a value to one of about
   n / 4 buckets of nearly equal size. A bad sample makes buckets uneven; it cannot make a rank wrong.
2. Every value is counted into its bucket; its slot there is the count before it.
3. Values are scattered to `offset of the bucket + slot`. Buckets are now in order, and values of one bucket are in the
   order of their indices.
4. A value is less than the size of its bucket away from its rank: it moves up by one for each smaller value among the
   `REACH` after it, down by one for each larger value among the `REACH` before it. Equal values do not move: ties stay
   in the order of their indices. The few buckets too large for `REACH` are ranked one by one.
5. The target of the rank, `sorted_init[rank]`, is read back in the order of the index.

Values are compared as integer keys, so ranks are exact also where a thread takes denormal numbers for zero. Indices and
counts travel two to a 64-bit word where a loop is bound by its loads and stores.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, compiled
from fastplast_kernels.wasserstein.cpu_map import CELLS, FRACTION_BITS, GREATEST, LEAST, MAGNITUDE, key_of, make_map
from fastplast_kernels.wasserstein.cpu_small import targets_of
from fastplast_kernels.wasserstein.streams import LONGEST, SHORTEST, STATE, rank_in_streams

i32, i64, u32, u64 = np.int32, np.int64, np.uint32, np.uint64

MEAN_SIZE = 4  # values per bucket
REACH = 10  # buckets of at most REACH + 1 values are ranked all at once, vectorised
WIDE, LANES = 32, 8  # and those of at most WIDE + 1 one by one, vectorised
BLOCK = 2048  # values per pass through the L1 cache
SOME = 768  # up to here, a radix sort is faster than setting up buckets
STAGGER = 208  # arrays a multiple of 4 KiB apart collide in the L1 cache: keep them off each other

_PAGE = 1 << 19  # int32 in a large page of memory, 2 MiB
_LOW, _HIGH = u64(0xFFFFFFFF), u64(32)
_BUCKET = u64(0xFFFF)
_SLOTS = u64(0x0000FFFF0000FFFF)
_INFINITY = i32(0x7F800000)


@called
def _region(n):
    return (n + 1023) // 1024 * 1024 + STAGGER


@called
def _buckets(n):
    """Number of buckets: at most 65,535, so that one fits 16 bits; one more per cell than values ask for."""
    size = max(MEAN_SIZE, n // 60_000 + 1)
    return n // size + CELLS


@compiled
def scratch_size(n: int) -> int:
    """Length of the int32 scratch that `rank_target` needs for a row of at most `n` values."""
    sorting = 6 * _region(n + 2 * WIDE + LANES) + _region(_buckets(n)) + _region(CELLS) + 2 * _region(BLOCK)
    return STATE + sorting  # streams need less


def new_scratch(n: int, more: int = 0) -> np.ndarray:
    """Scratch for rows of at most `n` values, in large pages of memory where the system has them.

    A row is gone through at random places, which in pages of 4 KiB waits for the translation of addresses. NumPy asks
    for large pages from 4 MiB on.

    Args:
        n: length of the longest row.
        more: how much longer than `scratch_size(n)` it shall be.

    Returns:
        int32 `[scratch_size(n) + more]`.
    """
    size = scratch_size(n) + more
    if n <= SOME:
        return np.empty(size, np.int32)
    whole = np.empty((size // _PAGE + 2) * _PAGE, np.int32)
    first = -whole.ctypes.data % (4 * _PAGE) // 4
    return whole[first : first + size]


@called
def _count(bits, low, high, scale, table, count, where, key, cell):
    """Counts the row into buckets; `where[i] = bucket | slot << 16`. False at a NaN or an infinity."""
    for begin in range(0, bits.size, BLOCK):
        block = bits[begin : begin + BLOCK]
        m = block.size
        pairs = (m + 1) // 2
        top = i32(0)
        for i in range(m):
            top = max(top, i32(block[i] & MAGNITUDE))
            spread = u32(u32(max(min(key_of(block[i]), high), low) - low) * scale)
            key[i] = spread
            cell[i] = spread >> u32(FRACTION_BITS)
        if top >= _INFINITY:
            return False
        cell2 = cell[: 2 * pairs].view(np.uint64)
        for i in range(pairs):
            both = cell2[i]
            cell2[i] = u64(table[both & u64(CELLS - 1)]) | (u64(table[(both >> _HIGH) & u64(CELLS - 1)]) << _HIGH)
        for i in range(m):
            fraction = u32((key[i] >> u32(FRACTION_BITS - 16)) & u32(0xFFFF))
            inside = u32(fraction * u32(cell[i] & u32(0xFFFF))) >> u32(16)
            key[i] = u32(cell[i] >> u32(16)) + inside
        bucket2, where2 = key[: 2 * pairs].view(np.uint64), where[begin : begin + 2 * pairs].view(np.uint64)
        for i in range(m // 2):
            both = bucket2[i]
            one, two = both & _LOW, both >> _HIGH
            slot = count[one]
            count[one] = slot + u32(1)
            next_slot = count[two]
            count[two] = next_slot + u32(1)
            where2[i] = both | ((u64(slot) & _BUCKET) << u64(16)) | ((u64(next_slot) & _BUCKET) << u64(48))
        if m % 2 == 1:
            one = u64(key[m - 1])
            slot = count[one]
            count[one] = slot + u32(1)
            where[begin + m - 1] = u32(one | ((u64(slot) & _BUCKET) << u64(16)))
    return True


@called
def _offsets(count, crowded):
    """Turns counts into offsets and lists buckets of more than REACH + 1. Returns how many, and the largest count."""
    total, listed, largest = u32(0), 0, u32(0)
    for bucket in range(count.size):
        size = count[bucket]
        count[bucket] = total
        if size > u32(REACH + 1):
            crowded[listed] = bucket
            listed += 1
            largest = max(largest, size)
        total += size
    return listed, largest


@called
def _scatter(bits, offset, where, place, key):
    """Moves the keys of the row into their buckets; `where` becomes the position of each value."""
    for begin in range(0, bits.size, BLOCK):
        block = bits[begin : begin + BLOCK]
        m = block.size
        for i in range(m):
            key[i] = u32(key_of(block[i]))
        where2, key2 = where[begin : begin + m // 2 * 2].view(np.uint64), key[: m // 2 * 2].view(np.uint64)
        for i in range(where2.size):
            both = where2[i]
            starts = u64(offset[both & _BUCKET]) | (u64(offset[(both >> _HIGH) & _BUCKET]) << _HIGH)
            where2[i] = starts + ((both >> u64(16)) & _SLOTS)
        for i in range(where2.size):
            both, keys = where2[i], key2[i]
            place[both & _LOW] = i32(keys)
            place[both >> _HIGH] = i32(keys >> _HIGH)
        if m % 2 == 1:
            last = where[begin + m - 1]
            position = offset[u64(last) & _BUCKET] + (last >> u32(16))
            where[begin + m - 1] = position
            place[u64(position)] = i32(key[m - 1])


@called
def _scatter_overfull(bits, offset, where, place, free):
    """`_scatter` where a bucket holds more than 65,535 values and slots do not fit 16 bits: counts anew, in `free`."""
    for bucket in range(offset.size):
        free[bucket] = offset[bucket]
    for i in range(bits.size):
        bucket = u64(where[i]) & _BUCKET
        position = free[bucket]
        free[bucket] = position + u32(1)
        where[i] = position
        place[u64(position)] = key_of(bits[i])


@called
def gather_words(source, where, out):
    """Reads out = source[where], as words."""
    even = where.size // 2 * 2
    where2, out2 = where[:even].view(np.uint64), out[:even].view(np.uint64)
    for i in range(where2.size):
        both = where2[i]
        out2[i] = u64(source[both & _LOW]) | (u64(source[both >> _HIGH]) << _HIGH)
    if where.size > even:
        out[even] = source[u64(where[even])]


def _rank_within(reach):
    """Makes the function that ranks keys at most `reach` places away from their rank."""

    @called
    def ranks(near, first, rank):
        for i in range(near.size - 2 * reach):
            here = near[reach + i]
            moved = i32(0)
            for d in range(1, reach + 1):
                moved += i32(near[reach + i + d] < here)
                moved -= i32(near[reach + i - d] > here)
            rank[i] = u32(i32(first) + i32(i) + moved)

    return ranks


_rank_near, _rank_wide = _rank_within(REACH), _rank_within(WIDE)


@called
def _near_targets(key, sorted_word, target, rank):
    """Targets in buckets of at most REACH + 1 keys. `key` starts REACH before the row and ends REACH after it."""
    for begin in range(0, sorted_word.size, BLOCK):
        m = min(BLOCK, sorted_word.size - begin)
        _rank_near(key[begin : begin + m + 2 * REACH], begin, rank)
        gather_words(sorted_word, rank[:m], target[begin : begin + m])


@called
def _crowded_targets(crowded, offset, place, sorted_word, target, order, other, rank):
    """Targets in the buckets too large for `_near_targets`. Buckets of equal keys are already right.

    `place` starts WIDE before the row and ends WIDE + LANES after it.
    """
    for k in range(crowded.size):
        bucket = u64(crowded[k])
        begin = i64(offset[bucket])
        end = sorted_word.size if bucket + u64(1) == u64(offset.size) else i64(offset[bucket + u64(1)])
        key, size = place[WIDE + begin : WIDE + end], end - begin
        varied = i32(0)
        for i in range(size):
            varied |= key[i] ^ key[0]
        if varied == i32(0):
            continue
        if size <= WIDE + 1:
            whole = (size + LANES - 1) // LANES * LANES  # the loop over the last few would not be vectorised
            _rank_wide(place[begin : begin + whole + 2 * WIDE], begin, rank)
            for i in range(size):
                target[begin + i] = sorted_word[u64(rank[i])]
        else:
            targets_of(key, sorted_word[begin:end], target[begin:end], order, other, rank)


@called
def solve_row(w, sorted_init, places, scratch):
    """Finds the targets of a row.

    Where `places`, uint32 `[n]`, will be written to anyway, no other memory needs to come into the caches for `where`.

    Returns:
        `ok`, `target`, `where [n]`: the target of value i, as the bits of a float32, is `target[where[i]]`. Both
        lie in `scratch`, or `where` in `places`. If not `ok`, the row holds a NaN or an infinity and they mean nothing.
    """
    n = w.size
    bits, sorted_word = w.view(np.int32), sorted_init.view(np.uint32)
    room, state = scratch[STATE:].view(np.uint32), scratch[:STATE].view(np.uint32)
    part = _region(n + 2 * WIDE + LANES)
    where, target = room[: n + 1], room[part : part + n + 1]
    if SHORTEST <= n <= LONGEST and rank_in_streams(bits, sorted_word, places, state, room[part:]):
        return True, room[part:], places
    place = room[2 * part : 2 * part + n + 2 * WIDE + LANES].view(np.int32)
    order, other = room[3 * part : 3 * part + n], room[4 * part : 4 * part + n]
    listed = room[5 * part : 5 * part + n]
    inner = place[WIDE : WIDE + n]
    room = room[6 * part :]
    key, cell = room[:BLOCK], room[_region(BLOCK) : _region(BLOCK) + BLOCK]
    room = room[2 * _region(BLOCK) :]
    if n <= SOME:
        for i in range(n):
            where[i] = i
            inner[i] = key_of(bits[i])
            if i32(bits[i] & MAGNITUDE) >= _INFINITY:
                return False, target, where
        targets_of(inner, sorted_word, target, order, other, key)
        return True, target, where
    table, count = room[:CELLS], room[_region(CELLS) : _region(CELLS) + _buckets(n)]
    low, high, scale = make_map(bits, order.view(np.int32), table, count, count.size)
    for bucket in range(count.size):
        count[bucket] = u32(0)
    if not _count(bits, low, high, scale, table, count, where, key, cell):
        return False, target, where
    crowds, largest = _offsets(count, listed)
    if largest > u32(65535):
        _scatter_overfull(bits, count, where, inner, target)
    else:
        _scatter(bits, count, where, inner, key)
    for i in range(WIDE):
        place[i] = LEAST
    for i in range(WIDE + n, place.size):
        place[i] = GREATEST
    _near_targets(place[WIDE - REACH : WIDE + n + REACH], sorted_word, target, key)
    _crowded_targets(listed[:crowds], count, place, sorted_word, target, order, other, key)
    return True, target, where


@compiled
def rank_target(w: np.ndarray, sorted_init: np.ndarray, q: np.ndarray, scratch: np.ndarray) -> bool:
    """Writes q = sorted_init[rank(w)] for one row; ranks by value, ties by index, -0.0 equal to 0.0.

    Args:
        w: row `[n]`, float32, C-contiguous, n >= 1.
        sorted_init: ascending initial weights `[n]`, float32.
        q: output `[n]`, float32; may not overlap `w`.
        scratch: int32 `[>= scratch_size(n)]`; contents do not matter, before or after.

    Returns:
        False, with `q` left as it was, when the row holds a NaN or an infinity.
    """
    n = w.size
    ok, target, where = solve_row(w, sorted_init, scratch[STATE : STATE + n].view(np.uint32), scratch)
    if ok:
        gather_words(target, where[:n], q.view(np.uint32))
    return ok
