"""The seed contract: named, counter-based streams.

Everything random of a member comes from streams named (seed, purpose, task, epoch). A stream is Philox4x64-10 keyed by
a hash of its name; only its raw 64-bit words are used, so no draw depends on another, on the order of draws, on the
other members, or on the version of a library's distributions.

Philox: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

PURPOSES = (
    "subset", "init", "labels", "pixels", "order", "module", "classes", "head", "dropout", "reset", "noise", "method",
    "problem",
    "test_labels",
)  # fmt: skip


def words(seed: int, purpose: str, count: int, task: int = 0, epoch: int = 0) -> NDArray[np.uint64]:
    """The first words of a stream.

    Args:
        seed: of the member.
        purpose: one of ``PURPOSES``.
        count: how many words.
        task: number of the task; for ``init``, number of the parameter tensor; for what methods draw (``reset``,
            ``noise``, ``method``), number of the update.
        epoch: number of the epoch; for ``problem``, which of its draws; for ``head``, number of the parameter tensor;
            for ``reset``, number of the hidden unit, counted through all layers.

    Returns:
        `[count]` independent uniform 64-bit words.

    Raises:
        ValueError: if the purpose is unknown.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be a known stream: got {purpose!r}. Known: {', '.join(PURPOSES)}.")
    return np.random.Philox(key=int.from_bytes(_key(seed, purpose, task, epoch), "little")).random_raw(count)


def _key(seed: int, purpose: str, task: int, epoch: int) -> bytes:
    """The 128 bits that a stream's generator is keyed by."""
    return blake2b(f"fastplast/1/{seed}/{purpose}/{task}/{epoch}".encode(), digest_size=16).digest()


def stream_keys(seed: int, purpose: str, first: int, count: int) -> NDArray[np.int64]:
    """What streams in a row are keyed by, for generators of the same words inside an engine.

    Args:
        seed: of the member.
        purpose: one of ``PURPOSES``.
        first: number of the first task, or update.
        count: how many streams.

    Returns:
        `[count, 2]` the low and the high 64 bits of each.
    """
    keys = b"".join(_key(seed, purpose, task, 0) for task in range(first, first + count))
    return np.frombuffer(keys, "<i8").reshape(count, 2).astype(np.int64)


def key_words(seed: int, purpose: str) -> tuple[int, int]:
    """A 64-bit key of a member, for generators that run inside an engine.

    Args:
        seed: of the member.
        purpose: one of ``PURPOSES``.

    Returns:
        Its low and its high 32 bits.
    """
    word = int(words(seed, purpose, 1)[0])
    return word & 0xFFFFFFFF, word >> 32


def permutation(seed: int, purpose: str, length: int, task: int = 0, epoch: int = 0) -> NDArray[np.int64]:
    """A uniform permutation: the order that sorts the stream's words (ties, of probability 2^-64 n^2, by index).

    Args:
        seed: of the member.
        purpose: one of ``PURPOSES``.
        length: n.
        task: number of the task.
        epoch: number of the epoch.

    Returns:
        `[length]` the numbers 0..n-1 in random order.
    """
    return np.argsort(words(seed, purpose, length, task, epoch), kind="stable").astype(np.int64, copy=False)


def uniform(seed: int, purpose: str, count: int, task: int = 0, epoch: int = 0) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) with 53 random bits.

    Args:
        seed: of the member.
        purpose: one of ``PURPOSES``.
        count: how many.
        task: number of the task; for ``init``, number of the parameter tensor.
        epoch: number of the epoch.

    Returns:
        `[count]` float64.
    """
    return (words(seed, purpose, count, task, epoch) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, purpose: str, count: int, task: int = 0, epoch: int = 0) -> NDArray[np.float64]:
    """Standard normal numbers by the Box-Muller transform.

    Args:
        seed: of the member.
        purpose: one of ``PURPOSES``.
        count: how many.
        task: number of the task; for ``init``, number of the parameter tensor.
        epoch: number of the epoch.

    Returns:
        `[count]` float64.
    """
    half = (count + 1) // 2
    u = uniform(seed, purpose, 2 * half, task, epoch)
    radius = np.sqrt(-2.0 * np.log1p(-u[:half]))
    angle = 2.0 * np.pi * u[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def normal_float32(seed: int, purpose: str, count: int, task: int = 0, epoch: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers as ``normal``, six times as fast: two of each word, in float32, none beyond 5.8.

    Args:
        seed: of the member.
        purpose: one of ``PURPOSES``.
        count: how many.
        task: number of the task, or of the update.
        epoch: number of the epoch.

    Returns:
        `[count]` float32.
    """
    half = (count + 1) // 2
    u = (words(seed, purpose, half, task, epoch).view(np.uint32) >> np.uint32(8)).astype(np.float32) * np.float32(
        2**-24
    )
    radius = np.sqrt(np.float32(-2.0) * np.log1p(-u[:half]))
    angle = np.float32(2.0 * np.pi) * u[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def orders(seeds: list[int], examples: int, batch_size: int, task: int, epoch: int) -> NDArray[np.int64]:
    """The minibatches of one epoch: every example once, in an order of its own for each member.

    Args:
        seeds: one per member.
        examples: N.
        batch_size: B.
        task: number of the task.
        epoch: number of the epoch.

    Returns:
        `[M, S, B]` positions 0..N-1; -1 fills up the last batch where B does not divide N.
    """
    steps = -(-examples // batch_size)
    order = np.full((len(seeds), steps * batch_size), -1, dtype=np.int64)
    drawn: dict[int, NDArray[np.int64]] = {}
    for m, seed in enumerate(seeds):
        if seed not in drawn:
            drawn[seed] = permutation(seed, "order", examples, task, epoch)
        order[m, :examples] = drawn[seed]
    return order.reshape(len(seeds), steps, batch_size)
