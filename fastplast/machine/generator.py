"""PyTorch's generators, of which a process has one for each device: whoever sets one must have it for himself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_IN_USE = RLock()  # two runs in two threads of a process set it in turn


@contextmanager
def isolated_generators(device: torch.device | None = None) -> Iterator[None]:
    """Generators are afterwards as they were before, and no other thread uses them here meanwhile.

    Args:
        device: whose generator is used beside that of the CPU.

    Yields:
        Nothing.
    """
    with _IN_USE, torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
        yield
