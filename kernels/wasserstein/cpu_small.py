"""Targets of a few keys, at once: of a short row, or of a bucket that is too large for its loop."""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called

i32, u32, u64 = np.int32, np.uint32, np.uint64

FEW = 64  # up to here, comparing all pairs is fastest


@called
def _few_targets(key, sorted_word, target):
    """Targets of a few keys, by comparing all pairs."""
    for i in range(key.size):
        here, rank = key[i], 0
        for j in range(i):
            rank += key[j] <= here
        for j in range(i + 1, key.size):
            rank += key[j] < here
        target[i] = sorted_word[rank]


@called
def _many_targets(key, sorted_word, target, order, other, count):
    """Targets by a radix sort of the indices, 8 bits at a time, without the digits in which all keys agree."""
    varied = i32(0)
    for i in range(key.size):
        order[i] = i
        varied |= key[i] ^ key[0]
    for digit in range(4):
        shift = u32(8 * digit)
        if (u32(varied) >> shift) & u32(0xFF) == 0:
            continue
        flip = u32(0x80 if digit == 3 else 0)  # the sign bit: negative keys first
        for d in range(256):
            count[d] = u32(0)
        for i in range(key.size):
            count[u64(((u32(key[i]) >> shift) & u32(0xFF)) ^ flip)] += u32(1)
        total = u32(0)
        for d in range(256):
            size = count[d]
            count[d] = total
            total += size
        for i in range(key.size):
            index = order[i]
            d = u64(((u32(key[u64(index)]) >> shift) & u32(0xFF)) ^ flip)
            other[u64(count[d])] = index
            count[d] += u32(1)
        order, other = other, order
    for rank in range(key.size):
        target[u64(order[rank])] = sorted_word[rank]


@called
def targets_of(key, sorted_word, target, order, other, count):
    """Writes the targets of keys, by whichever is faster. `order` and `other` are scratch `[n]`, `count` `[256]`."""
    if key.size <= FEW:
        _few_targets(key, sorted_word, target)
    else:
        _many_targets(key, sorted_word, target, order, other, count)
