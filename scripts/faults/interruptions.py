"""Kills, full disks, power cuts and second writers: a run goes on to the same bytes.

Each function tries a fault `count` times more in an empty folder `work`, after it was tried `first` times before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trained import Row, ended, forked, go_on, results

from fastplast.runs import files


def kills(work: Path, count: int, first: int = 0) -> Row:
    """SIGKILL at random moments of training, again and again, until the run is finished; and a new run."""
    row = Row("SIGKILL of the trainer, at random moments", "resumed to the same bytes")
    rng, tasks = random.Random(first), {"tasks": 12}
    go_on(work / "warm")  # machine code is loaded
    begun = time.monotonic()
    go_on(work / "want", **tasks)
    took = time.monotonic() - begun
    want = results(work / "want")
    while row.tried < count:
        path = work / f"run-{row.tried}"
        while True:
            pid = forked(lambda path=path: go_on(path, **tasks))
            time.sleep(rng.uniform(0.02, took))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            status = ended(pid)
            if status == 0:
                break
            row.count(None if status == -signal.SIGKILL else f"ended with status {status}")
        if results(path) != want:
            row.wrong.append(f"other bytes in {path.name}")
        shutil.rmtree(path)
    return row


@contextlib.contextmanager
def failing_from(number: int) -> Iterator[list[int]]:
    """Makes every call that changes a file fail from one on, as on a full disk; counts the calls."""
    calls, before = [0], {name: getattr(os, name) for name in ("replace", "fsync", "write")}

    def counted(name: str) -> Any:
        def call(*arguments: Any) -> Any:
            calls[0] += 1
            if calls[0] >= number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return before[name](*arguments)

        return call

    try:
        for name in before:
            setattr(os, name, counted(name))
        yield calls
    finally:
        for name, function in before.items():
            setattr(os, name, function)


def full_disks(work: Path, count: int, first: int = 0) -> Row:
    """The disk is full from the n-th writing call on, for every n; then there is room, and the run goes on."""
    row = Row(
        "disk full from the n-th writing call on, for every n", "an error that names a file; resumed to the same bytes"
    )
    go_on(work / "want")
    want = results(work / "want")
    for number in range(first + 1, first + count + 1):
        path = work / "run"
        with failing_from(number) as calls:
            said = None
            try:
                go_on(path)
            except OSError as error:
                said = str(error)  # and not the error, whose frames hold the run's lock
        if calls[0] < number:  # there is no such call
            break
        wrong = None if said is None or str(work) in said else f"call {number}: {said}"
        go_on(path)
        if results(path) != want:
            wrong = f"call {number}: other bytes"
        row.count(wrong)
        shutil.rmtree(path)
    return row


def power_cuts(work: Path, count: int, first: int = 0) -> Row:
    """The state of the disk before each flush of a directory, without what was not flushed; the run goes on from it."""
    row = Row("power cut before the n-th flush, what was not flushed lost", "resumed to the same bytes")
    go_on(work / "want")
    want, states, unflushed, number = results(work / "want"), [], {}, 0
    replace, sync = os.replace, files._sync_directory

    def replaced(source: Any, target: Any) -> None:
        target = Path(target)
        unflushed.setdefault(target, target.read_bytes() if target.exists() else None)
        replace(source, target)

    def synced(path: Path) -> None:
        nonlocal number
        number += 1
        state = work / f"state-{number}"
        if first < number <= first + count and (work / "run").exists():
            shutil.copytree(work / "run", state)
            states.append(state)
            for target, before in unflushed.items():
                lost = state / target.relative_to(work / "run")
                lost.unlink(missing_ok=True)
                if before is not None:
                    lost.write_bytes(before)
        unflushed.clear()
        sync(path)

    os.replace, files._sync_directory = replaced, synced
    try:
        go_on(work / "run")
    finally:
        os.replace, files._sync_directory = replace, sync
    for state in states:
        wrong = None
        try:
            go_on(state)
        except Exception as error:
            wrong = f"{state.name}: {type(error).__name__}: {error}"
        if wrong is None and results(state) != want:
            wrong = f"{state.name}: other bytes"
        row.count(wrong)
        shutil.rmtree(state)
    return row


def two_processes(work: Path, count: int, first: int = 0) -> Row:
    """Two processes start and resume one run at once: one trains it, the other says who does."""
    row = Row("two processes on one run at once", "one trains, the other is refused; the same bytes")
    go_on(work / "want")
    want = results(work / "want")
    for number in range(count):
        path = work / f"run-{number}"
        both = [forked(lambda path=path: go_on(path)) for _ in range(2)]
        statuses = sorted(map(ended, both))
        go_on(path)
        is_right = statuses in ([0, 0], [0, 1]) and results(path) == want
        row.count(None if is_right else f"run {number}: statuses {statuses}")
        shutil.rmtree(path)
    return row
