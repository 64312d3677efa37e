"""Many tries in one process, each within limits of time and memory; one that takes its process with it counts too."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from trained import ended, forked

CORE_SECONDS = 5.0  # of a core, for one try
BYTES = 1 << 30  # of memory beyond what the process has at its start
_WAIT = 60  # seconds for one try: what waits for ever takes no time of a core


def tries(attempt: Callable[[int], str | None], numbers: range) -> Iterator[str | None]:
    """Makes tries in a process of its own, and in a new one after each that ended it.

    Args:
        attempt: makes the try of a number; returns what was wrong, or None. Its process has `CORE_SECONDS` for it, and
            `BYTES` for all of them.
        numbers: of the tries.

    Yields:
        What was wrong with each, or None.
    """
    first, waited = numbers.start, None
    while first < numbers.stop:
        reader, writer = os.pipe()
        pid = forked(lambda first=first, writer=writer: _make(attempt, range(first, numbers.stop), writer))
        os.close(writer)
        with open(reader, encoding="utf-8") as answers:
            for answer in answers:
                first += 1
                yield json.loads(answer)
        status = ended(pid)
        if first == numbers.stop:
            return
        if status == -signal.SIGALRM and waited != first:  # the machine may have stood still
            waited = first
            continue
        yield f"try {first}: {_what_ended(status)}"
        first += 1


def _make(attempt: Callable[[int], str | None], numbers: range, writer: int) -> None:
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # which ends the process, even in a library that never returns
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, now + BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        signal.setitimer(signal.ITIMER_PROF, CORE_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, _WAIT)
        wrong = attempt(number)
        os.write(writer, json.dumps(wrong and wrong[:1000]).encode() + b"\n")


def _what_ended(status: int) -> str:
    if status == -signal.SIGPROF:
        return f"more than {CORE_SECONDS:g} s of a core"
    if status == -signal.SIGALRM:
        return f"no end after {_WAIT:g} s, twice"
    return f"it ended its process with {signal.Signals(-status).name if status < 0 else status}"
