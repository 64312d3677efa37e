"""The definition of dropout's masks, in plain torch, the same bits on every device.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), keyed by the
member, with the counter (block, layer, update low, update high): a mask depends on nothing else, so that any engine may
make any part of it at any time. Integers of 32 bits are held in int64.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
ROUNDS = 10


def philox(key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10.

    Args:
        key: two words of 32 bits, int64, of shapes that broadcast with the counter.
        counter: four words of 32 bits, int64.

    Returns:
        Four words of 32 bits, int64.
    """
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for number in range(ROUNDS):
        if number:
            k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
        # The product of two words wraps around in int64, and has the right bits.
        a, b = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (b >> 32) & _LOW ^ c1 ^ k0, b & _LOW, (a >> 32) & _LOW ^ c3 ^ k1, a & _LOW
    return c0, c1, c2, c3


def dropout_mask(keys: Tensor, updates: Tensor, layer: int, shape: tuple[int, ...], rate: float) -> Tensor:
    """Factors of a layer's activations: 0 with probability `rate`, else 1 / (1 - rate).

    Element i of a member's mask, in row-major order, is dropped if word i % 4 of block i // 4 is less than
    rate * 2^32. The first rows of a mask do not depend on how many there are.

    Args:
        keys: `[M, 2]` int64, low and high 32 bits of each member's key.
        updates: `[M]` int64, updates that each member has done.
        layer: number of the hidden layer.
        shape: `(B, ...)` of one member's activations.
        rate: of dropout, in [0, 1).

    Returns:
        `[M, B, ...]` float32.
    """
    count = prod(shape)
    block = torch.arange(-(-count // 4), device=keys.device).unsqueeze(0)
    update = updates.to(keys.device).unsqueeze(1)
    counter = (block, torch.full_like(block, layer), update & _LOW, (update >> 32) & _LOW)
    words = torch.stack(philox((keys[:, :1], keys[:, 1:]), counter), dim=2)
    kept = words.flatten(1)[:, :count] >= int(rate * 2.0**32)
    return (kept.float() * (1.0 / (1.0 - rate))).reshape(len(keys), *shape)
