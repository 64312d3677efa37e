"""Arithmetic on a CPU whose digits do not depend on the number of threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from fastplast.config import ConfigError

Result = TypeVar("Result")
_process: list[int] = []  # the first in which several threads have trained


def use_threads(count: int) -> None:
    """Sets how many threads torch's arithmetic takes.

    Args:
        count: of them.

    Raises:
        ConfigError: if this process was forked from one that has trained on several: they did not come along, and
            waiting for them would never end.
    """
    if count > 1:
        if (_process or [os.getpid()])[0] != os.getpid():
            raise ConfigError(
                f"--threads must be 1 in a process that was forked after training: got {count}. Set it to 1, or start "
                "processes with multiprocessing.get_context('spawn')."
            )
        _process[:] = [os.getpid()]
    torch.set_num_threads(count)


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
