"""The masks of `reference` on a GPU, inside kernels: the same bits."""

from __future__ import annotations

import triton
import triton.language as tl

# Columns of the table of streams, int64 [M, 3]: low and high 32 bits of a member's key, updates made before a call.
STREAM_COLUMNS = 3


@triton.jit
def dropout_mask(stream_ptr, update, number, threshold, factor, index):
    """Factors of a layer's activations, 0 or `factor`.

    Args:
        stream_ptr: row of the member in the table of streams.
        update: of this call, int64.
        number: of the hidden layer.
        threshold: rate * 2^32, rounded down, int64; 0 drops nothing.
        factor: 1 / (1 - rate).
        index: of the activations in row-major order, int32 of any shape.

    Returns:
        Factors, of the shape of `index`.
    """
    key = tl.load(stream_ptr) | (tl.load(stream_ptr + 1) << 32)
    update += tl.load(stream_ptr + 2)
    block = (index >> 2).to(tl.uint32)
    none = block & 0
    low, high = (update & 0xFFFFFFFF).to(tl.uint32), ((update >> 32) & 0xFFFFFFFF).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(key, block, none | number.to(tl.uint32), none | low, none | high)
    word = index & 3
    drawn = tl.where(word < 2, tl.where(word == 0, w0, w1), tl.where(word == 2, w2, w3))
    return tl.where(drawn >= threshold.to(tl.uint32), factor, 0.0)
