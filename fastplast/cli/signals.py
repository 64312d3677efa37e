"""Signals that end training after the epoch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_BY_HAND = (signal.SIGINT, signal.SIGTERM)
_BY_OTHERS = ("SIGHUP", "SIGUSR1", "SIGUSR2")  # job schedulers, and terminals that close


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop, and the second into an end at once.

    SIGHUP, SIGUSR1 and SIGUSR2, which job schedulers and closed terminals send, are the wish alone, however often.

    Yields:
        A function that says whether stopping is wished for.
    """
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if number in _BY_HAND and any(earlier in _BY_HAND for earlier in received):
            signal.signal(number, signal.SIG_DFL)  # of a third: the exception is lost where compiled code called back
            raise KeyboardInterrupt
        received.append(number)
        with suppress(OSError):  # not print: the signal may have come in the middle of one
            os.write(2, b"\nStopping after this epoch; once more stops at once.\n")

    numbers = [*_BY_HAND, *(getattr(signal, name) for name in _BY_OTHERS if hasattr(signal, name))]
    kept = {number: signal.getsignal(number) for number in numbers}
    for number, handler in kept.items():
        if handler is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, handle)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
