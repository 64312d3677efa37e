"""Exact ranks of float32 rows and the Wasserstein target, on the CPU with Numba."""

from __future__ import annotations

import numpy as np
from numba import njit

_DIGIT = 11
_RADIX = 1 << _DIGIT


@njit(nogil=True, cache=True)
def scratch_size(n: int) -> int:
    """Length of the int32 scratch that `rank_target` needs for a row of at most `n` values."""
    return 4 * n + _RADIX


@njit(nogil=True, cache=True)
def rank_target(w: np.ndarray, sorted_init: np.ndarray, q: np.ndarray, scratch: np.ndarray) -> bool:
    """Writes q = sorted_init[rank(w)] for one row; ranks by value, ties by index, -0.0 equal to 0.0.

    Args:
        w: row `[n]`, float32, C-contiguous.
        sorted_init: ascending initial weights `[n]`, float32.
        q: output `[n]`, float32; may not overlap `w`.
        scratch: int32 `[>= scratch_size(n)]`; contents do not matter, before or after.

    Returns:
        False, with `q` left as it was, when the row holds a NaN or an infinity.
    """
    n = w.size
    key, order = scratch[:n], scratch[n : 2 * n]
    next_key, next_order = scratch[2 * n : 3 * n], scratch[3 * n : 4 * n]
    count = scratch[4 * n : 4 * n + _RADIX]
    bits = w.view(np.int32)
    for i in range(n):
        magnitude = bits[i] & np.int32(0x7FFFFFFF)
        if magnitude >= np.int32(0x7F800000):
            return False
        key[i] = magnitude if bits[i] >= 0 else -magnitude
        order[i] = i
    for digit in range(3):
        shift = np.int64(_DIGIT * digit)
        count[:] = 0
        for i in range(n):
            count[((np.int64(key[i]) + 0x80000000) >> shift) & (_RADIX - 1)] += 1
        total = np.int32(0)
        for d in range(_RADIX):
            here = count[d]
            count[d] = total
            total += here
        for i in range(n):
            d = ((np.int64(key[i]) + 0x80000000) >> shift) & (_RADIX - 1)
            next_key[count[d]] = key[i]
            next_order[count[d]] = order[i]
            count[d] += 1
        key, next_key = next_key, key
        order, next_order = next_order, order
    for i in range(n):
        q[order[i]] = sorted_init[i]
    return True
