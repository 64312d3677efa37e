"""One shard in a process of its own, which ends with the process that started it: ``python -m fastplast.sweeps.child``.

Reads a request as JSON from standard input and writes an answer as JSON to standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from fastplast.config import Experiment
from fastplast.sweeps.execute import failure_of, is_out_of_memory
from fastplast.training.loop import Stopped
from fastplast.training.start import proceed, start
from fastplast.training.storing import storing

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


class Request(TypedDict):
    """What a child is to do.

    Attributes:
        parent: number of the process that starts it.
        path: of the shard's run.
        config: of its experiment, as ``Experiment.to_dict`` has it.
        store: where its sweep is sent; None for nowhere.
    """

    parent: int
    path: str
    config: dict[str, Any]
    store: str | None


class Answer(TypedDict):
    """What became of a shard.

    Attributes:
        error: what failed, in words; None if nothing did.
        is_transient: whether it may go by itself.
        is_out_of_memory: whether memory did not suffice.
        is_stopped: whether training was asked to stop before its end.
    """

    error: str | None
    is_transient: bool
    is_out_of_memory: bool
    is_stopped: bool


def end_with_parent(parent: int) -> None:
    """Ends this process by the system's hand as soon as another has ended, even if that was killed.

    Args:
        parent: number of the process that started this one.

    Raises:
        SystemExit: if it has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


@contextmanager
def _stop_on_signal() -> Iterator[list[int]]:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def train_shard(request: Mapping[str, Any]) -> Answer:
    """Starts a shard, or goes on with it from its last checkpoint.

    Args:
        request: as of ``Request``.

    Returns:
        What became of it.
    """
    path, stopped = Path(request["path"]), False
    try:
        with _stop_on_signal() as received:
            if (path / "config.json").exists():
                _, events = proceed(path, stop=lambda: bool(received), tasks=request["config"].get("tasks"))
            else:
                experiment = Experiment.from_dict({**request["config"], "out": str(path)})
                _, events = start(experiment, stop=lambda: bool(received))
            if request.get("store"):
                events = storing(path, events, request["store"])
            for event in events:
                stopped = isinstance(event, Stopped)
    except Exception as error:
        failure = failure_of(error)
        return Answer(
            error=failure.error,
            is_transient=failure.is_transient,
            is_out_of_memory=is_out_of_memory(error),
            is_stopped=False,
        )
    return Answer(error=None, is_transient=False, is_out_of_memory=False, is_stopped=stopped)


def main() -> None:
    """Does what standard input asks for."""
    request = json.load(sys.stdin)
    end_with_parent(request["parent"])
    answer, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed is no answer
    json.dump(train_shard(request), answer)
    answer.flush()


if __name__ == "__main__":
    main()
