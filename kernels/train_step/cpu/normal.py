"""Standard normal numbers of an update: Box and Muller's of the words of Philox4x64-10, two of each word.

Philox: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Numbers u in [0, 1) are the
upper 24 bits of the halves of a word; of a row of n normal numbers the i-th and the (i + n / 2)-th are sqrt(-2 log(1 -
u_i)) times cos and sin of 2 pi u_(i + n / 2). Words are exact, so that all who have the key draw the same numbers to
rounding.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, inlined, merged
from fastplast_kernels.train_step.cpu.members import copy_in
from fastplast_kernels.train_step.cpu.simd import (
    LANES,
    absolute,
    fma,
    multiply_words,
    pointer,
    splat,
    split_exponent,
    sqrt,
    store,
    uniform_lanes,
    where_positive,
)

CHUNK = 128  # numbers of each half whose words are drawn before they are used; a multiple of what a block gives
_BLOCK = 8  # numbers of a block of four words
_ROUNDS = 10


def _signed(word: int) -> np.int64:
    return np.uint64(word).astype(np.int64)


_FIRST, _SECOND = _signed(0xD2E7470EE14C6C93), _signed(0xCA5A826395121157)
_FIRST_STEP, _SECOND_STEP = _signed(0x9E3779B97F4A7C15), _signed(0xBB67AE8584CAA73B)


@called
def draw_words(low, high, first, blocks, words, at):
    """Words of the stream of a key, four for each block from number ``first`` on, to ``words[at]`` and on."""
    for block in range(blocks):
        zero, k0, k1 = np.int64(0), low, high
        c0, c1, c2, c3 = first + block + 1, zero, zero, zero  # as NumPy, which begins with 1
        for _ in range(_ROUNDS):
            low0, high0 = multiply_words(c0, _FIRST)
            low1, high1 = multiply_words(c2, _SECOND)
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0, k1 = k0 + _FIRST_STEP, k1 + _SECOND_STEP
        to = at + 4 * block
        words[to], words[to + 1], words[to + 2], words[to + 3] = c0, c1, c2, c3


@inlined
def _log(x):
    """Natural logarithm of positive normal numbers, relative error below 2e-7: e log 2 + f p(f), x = 2^e (1 + f)."""
    mantissa, exponent = split_exponent(x)
    f = mantissa - splat(1.0)
    p = fma(f, splat(0.08720104020713294), splat(-0.14366245814725614))
    p = fma(f, p, splat(0.14952739345756197))
    p = fma(f, p, splat(-0.16562490208569453))
    p = fma(f, p, splat(0.1995680113658275))
    p = fma(f, p, splat(-0.2500206975947123))
    p = fma(f, p, splat(0.3333418636818707))
    p = fma(f, p, splat(-0.49999988008256735))
    p = fma(f, p, splat(0.9999999741623441))
    return fma(exponent, splat(0.6931471805599453), f * p)


@inlined
def _sine(b):
    """sin(2 pi b) for b in [0, 1/4]."""
    z = b * b
    p = fma(z, splat(39.71091812639059), splat(-76.57499225600907))
    p = fma(z, p, splat(81.60223125005523))
    p = fma(z, p, splat(-41.341677478593844))
    return b * fma(z, p, splat(6.283185273792162))


@inlined
def _pair(u, v):
    """Two vectors of normal numbers. All folding of the angle is exact."""
    radius = sqrt(splat(-2.0) * _log(splat(1.0) - u))
    turned = v - splat(0.5)
    size = absolute(turned)
    beyond = size - splat(0.25)  # a quarter turn
    folded = where_positive(beyond, splat(0.5) - size, size)
    sine, cosine = radius * _sine(folded), radius * _sine(splat(0.25) - folded)
    return (
        where_positive(beyond, cosine, splat(0.0) - cosine),
        where_positive(turned, splat(0.0) - sine, sine),
    )


@called
def fill_normal(low, high, count, words, values):
    """Normal numbers of a key in a row, as ``seeding.normal_float32`` of fastplast has them.

    Args:
        low: of the key, 64 bits.
        high: likewise.
        count: how many, a multiple of 16 and at least 32.
        words: scratch for `CHUNK` words.
        values: of the result, with room for 16 more.
    """
    half = count // 2
    # From the end: the last vectors of a half may be half full, and what is written behind them is written again.
    for chunk in range((half + CHUNK - 1) // CHUNK - 1, -1, -1):
        first = chunk * CHUNK
        length = min(CHUNK, half - first)
        draw_words(low, high, first // _BLOCK, length // _BLOCK, words, 0)
        draw_words(low, high, (half + first) // _BLOCK, length // _BLOCK, words, CHUNK // 2)
        for k in range((length - 1) // LANES * LANES, -1, -LANES):
            x, y = _pair(uniform_lanes(words, k // 2), uniform_lanes(words, (CHUNK + k) // 2))
            store(values, first + k, x)
            store(values, half + first + k, y)


@merged
def draw_normal(network, key, size, scratch):
    """Normal numbers for all parameters of a member, to ``scratch.held``; zeros between rows stay."""
    fill_normal(key[0], key[1], size, pointer(scratch.words), pointer(scratch.drawn))
    copy_in(network, pointer(scratch.drawn), np.int64(0), pointer(scratch.held))
