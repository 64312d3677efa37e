"""Arithmetic on a CPU whose digits do not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

Result = TypeVar("Result")


def one_thread_each(
    work: Callable[[int], Result], count: int, device: torch.device, most: int | None = None
) -> list[Result]:
    """Does pieces of work on a CPU in a pool, each on one thread of torch's arithmetic; on a GPU one after another.

    A sum that is split among threads has other last digits for another number of threads; one on a single thread has
    not. Two pieces on a thread each also finish before two in turn on two threads.

    Args:
        work: from the number of a piece to its result.
        count: of the pieces.
        device: whose arithmetic it is.
        most: pieces at once, besides ``torch.get_num_threads()``; no limit if None.

    Returns:
        Results, in order.
    """
    if device.type != "cpu" or not count:
        return [work(index) for index in range(count)]
    threads = torch.get_num_threads()
    try:
        at_once = min(threads, count, most or count)
        with ThreadPoolExecutor(at_once, initializer=partial(torch.set_num_threads, 1)) as pool:
            return list(pool.map(work, range(count)))
    finally:
        torch.set_num_threads(threads)  # a worker also set the number with which later threads begin
