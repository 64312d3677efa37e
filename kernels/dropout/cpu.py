"""The masks of `reference` on a CPU, inside kernels: the same bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.dropout.reference import _LOW, _MULTIPLIERS, _WEYL, ROUNDS

WORDS = 4  # of a block
_FIRST, _SECOND = _MULTIPLIERS
_FIRST_STEP, _SECOND_STEP = _WEYL


class Stream(NamedTuple):
    """Of a member's masks: low and high 32 bits of its key, and the updates that it has done."""

    low: int
    high: int
    update: int


@called
def fill_mask(stream, layer, rate, mask, at, first, count):
    """Writes a part of the mask of one layer, row-major.

    Args:
        stream: the member's.
        layer: number of the hidden layer.
        rate: of dropout, in [0, 1).
        mask: flat array of the result.
        at: index in it of the first factor.
        first: which factor of the layer's mask that is, a multiple of `WORDS`.
        count: of the factors; whole blocks of `WORDS` are written.
    """
    threshold, factor = np.int64(rate * 4294967296.0), np.float32(1.0 / (1.0 - rate))
    low, high = stream.update & _LOW, (stream.update >> 32) & _LOW
    for block in range((count + WORDS - 1) // WORDS):
        # Products of two words of 32 bits wrap around in int64, and have the right bits.
        c0, c1, c2, c3, k0, k1 = first // WORDS + block, layer, low, high, stream.low, stream.high
        for _ in range(ROUNDS):
            a, b = c0 * _FIRST, c2 * _SECOND
            c0, c1, c2, c3 = ((b >> 32) & _LOW) ^ c1 ^ k0, b & _LOW, ((a >> 32) & _LOW) ^ c3 ^ k1, a & _LOW
            k0, k1 = (k0 + _FIRST_STEP) & _LOW, (k1 + _SECOND_STEP) & _LOW
        to = at + WORDS * block
        mask[to] = factor if c0 >= threshold else np.float32(0.0)
        mask[to + 1] = factor if c1 >= threshold else np.float32(0.0)
        mask[to + 2] = factor if c2 >= threshold else np.float32(0.0)
        mask[to + 3] = factor if c3 >= threshold else np.float32(0.0)
