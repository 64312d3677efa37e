"""Signs of life of a writer on another machine, whose lock a network's file system may not show: its age.

As long as a run trains, the time of its lock is renewed; the lock's text says who holds it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from fastplast.bounded import read_bytes

_BEAT_SECONDS = 15.0
_ALIVE_SECONDS = 90.0  # a clock that differs, and a file system that tells late, among it


@contextlib.contextmanager
def beating(lock: int) -> Iterator[None]:
    """Renews the time of a lock, as long as it is open.

    Args:
        lock: the descriptor that holds it.

    Yields:
        Nothing.
    """
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(lock)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def living_elsewhere(lock: Path) -> str | None:
    """Who holds a lock on another machine, if that has been heard of lately.

    Args:
        lock: the file.

    Returns:
        For example ``process 4711 on some-host``; None if nobody does.
    """
    with contextlib.suppress(OSError, ValueError):
        holder = read_bytes(lock, 1000).decode(errors="replace")
        _, found, host = holder.partition(" on ")
        if found and host != platform.node() and abs(time.time() - lock.stat().st_mtime) < _ALIVE_SECONDS:
            return holder
    return None
