"""Watches an hour of training: ``python scripts/faults/soak.py --write``; another command is named after ``--``.

Every few seconds, resident memory, open descriptors, threads and processes of the command and of all that it started
are read from /proc. Minutes are counted from the first measurement that is stored. Ends with status 1 if memory grew by
2 % or more between the minutes 10 to 20 and the last ten, if descriptors, threads or processes became more, or if
anything was left over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from trained import Row

MOST_GROWTH = 2.0  # percent
TRAIN = [sys.executable, "-m", "fastplast", "train", "--benchmark", "mnist_shuffle", "--tasks", "1000000"]
SHORT = ["--seeds", "4", "--widths", "100", "50", "20", "--epochs", "2", "--examples", "320"]
SHORT += ["--epoch-curves", "--checkpoint-minutes", "0.02", "--yes", "--quiet"]


class Sample(NamedTuple):
    """What a command and all that it started held at a moment.

    Attributes:
        minute: since the first measurement that was stored.
        memory: bytes that are resident, summed over processes.
        descriptors: that are open.
        threads: of all processes.
        processes: the command's own and those it started.
    """

    minute: float
    memory: int
    descriptors: int
    threads: int
    processes: int


def of_session(session: int) -> list[Path]:
    """The folders in /proc of the living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()  # state, parent, group, session
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(folder)
    return found


def sample(session: int, minute: float) -> Sample:
    """Reads /proc; a process that ends meanwhile counts for nothing."""
    held = []
    for folder in of_session(session):
        with contextlib.suppress(OSError, KeyError):
            lines = (line.partition(":") for line in (folder / "status").read_text().splitlines())
            status = {name: text.split() for name, _, text in lines}
            memory = int(status["VmRSS"][0]) * 1024
            held.append((memory, len(os.listdir(folder / "fd")), int(status["Threads"][0]), 1))
    return Sample(minute, *(sum(column) for column in zip(*held)) if held else (0, 0, 0, 0))


def watch(command: list[str], out: Path, minutes: float, every: float) -> tuple[list[Sample], int, int]:
    """Starts a command, watches it and ends it by SIGTERM, as after the last task of a job.

    Args:
        command: that trains, without ``--out``.
        out: the run directory.
        minutes: to watch it, after its first measurement.
        every: seconds between two samples.

    Returns:
        The samples, the command's status, and how many processes of it were left over.
    """
    process = subprocess.Popen([*command, "--out", str(out)], start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        while process.poll() is None and not any(out.glob("**/metrics/part-*-end.parquet")):
            time.sleep(0.1)
        begun, samples = time.monotonic(), []
        while process.poll() is None and (minute := (time.monotonic() - begun) / 60) < minutes:
            samples.append(sample(process.pid, minute))
            time.sleep(every)
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=300)
        time.sleep(1)
        return samples, status, len(of_session(process.pid))
    finally:
        for folder in of_session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(folder.name), signal.SIGKILL)


def growth(samples: list[Sample], field: str) -> float:
    """By how many percent the median grew from the second sixth of the time, at most minutes 10 to 20, to the last."""
    span = min(10.0, samples[-1].minute / 6)
    early = [getattr(one, field) for one in samples if span <= one.minute <= 2 * span]
    late = [getattr(one, field) for one in samples if one.minute >= samples[-1].minute - span]
    return 100 * (statistics.median(late) / statistics.median(early) - 1)


def findings(samples: list[Sample], status: int, left: int, finished: set[int]) -> list[str]:
    """What is not as it must be.

    Args:
        samples: of the command.
        status: with which it ended.
        left: processes of it that were left over.
        finished: statuses that are right.
    """
    wrong = []
    if status not in finished:
        wrong.append(f"the command ended with status {status}")
    if left:
        wrong.append(f"{left} processes were left over")
    for field in Sample._fields[1:]:
        most = MOST_GROWTH if field == "memory" else 0.0
        if (grown := growth(samples, field)) > most:
            wrong.append(f"{field} grew by {grown:.1f} %")
    return wrong


def soak(command: list[str], minutes: float, every: float) -> tuple[Row, list[Sample]]:
    """Watches a command that trains, in a directory that is removed.

    Args:
        command: without ``--out``.
        minutes: to watch it.
        every: seconds between two samples.

    Returns:
        A row of the table, and the samples.
    """
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        out = Path(folder) / "run"
        samples, status, left = watch(command, out, minutes, every)
        tasks = len(list(out.glob("**/metrics/part-*-end.parquet")))
        checkpoints = sum(
            1 + int(json.loads(path.read_text())["file"].partition("-")[2].partition(".")[0])
            for path in out.glob("**/checkpoint/checkpoint.json")
        )
        unfinished = [str(path) for path in out.glob("**/.*.tmp")]
    row = Row(
        f"{minutes:g} minutes of training: {tasks:,} tasks, each measured twice, and {checkpoints:,} checkpoints",
        f"resident memory grows by less than {MOST_GROWTH:g} % after the first ten minutes (measured: "
        f"{growth(samples, 'memory'):+.2f} %); no more descriptors, threads or processes; nothing is left over",
    )
    wrong = findings(samples, status, left, finished={0, 130}) + [f"{path} was left over" for path in unfinished]
    row.count("; ".join(wrong) or None)
    return row, samples


def main() -> int:
    """Prints the row and what was held over time, or writes the row into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--threads", default="1", help="of the default command")
    parser.add_argument("--write", action="store_true", help="write the row into docs/reliability.md")
    parser.add_argument("command", nargs="*", help="a command that trains, without --out, in place of the default")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the command ends with its watcher
    command = options.command or [*TRAIN, *SHORT, "--threads", options.threads]
    row, samples = soak(command, options.minutes, options.every)
    for one in samples[:: max(len(samples) // 60, 1)]:
        print(f"{one.minute:6.1f} min {one.memory / 2**20:8.1f} MiB", *one[2:])
    print(row.what, row.right, row.wrong, sep="\n")
    if options.write:
        import page

        page.keep(page.RESULTS, "soak", [row])
        page.write_page(page.RESULTS)
    return bool(row.wrong)


if __name__ == "__main__":
    sys.exit(main())
