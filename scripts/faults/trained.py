"""A small run, and what it must hold whatever happened to it."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import fastplast as fp

FOLDERS = ("metrics", "epochs", "spectra")


@dataclass
class Row:
    """What was tried and what came of it.

    Attributes:
        what: was done, in words.
        right: what is right then, in words.
        tried: how often.
        wrong: what was not right, in words; each is a defect.
    """

    what: str
    right: str
    tried: int = 0
    wrong: list[str] = field(default_factory=list)

    def count(self, wrong: str | None) -> None:
        """One more try; None if all was right."""
        self.tried += 1
        if wrong is not None:
            self.wrong.append(wrong)


def experiment(path: Path, **changes: object) -> fp.Experiment:
    """A run of a fraction of a second, which writes every kind of file and a checkpoint after every epoch."""
    fields = {"seeds": 2, "tasks": 3, "epochs": 2, "examples": 32, "widths": (6, 5, 4), "threads": 1}
    fields |= {"epoch_curves": True, "srank_method": "exact", "checkpoint_minutes": 1e-9, "out": str(path)}
    return fp.Experiment(**(fields | changes))  # pyright: ignore[reportArgumentType]


def go_on(path: Path, **changes: object) -> None:
    """Starts a run, or goes on with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if (path / "config.json").exists():
            fp.resume(path)
        else:
            fp.train(experiment(path, **changes))


def results(path: Path) -> dict[str, bytes]:
    """The parts of a run and its manifest."""
    found = [path / "manifest.jsonl", *(part for folder in FOLDERS for part in (path / folder).iterdir())]
    return {str(part.relative_to(path)): part.read_bytes() for part in found}


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Data with a part cut, a bit flipped, a part doubled or overwritten, or all of it replaced."""
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[at : at + 64] + data[at:]
    if kind == 3:
        return data[:at] + rng.randbytes(8) + data[at + 8 :]
    return rng.choice([b"", b"\0" * 64, b"[[]]", b"[" * 5000, b'{"schema_version": 2}', rng.randbytes(64)])


def forked(body: Callable[[], None]) -> int:
    """Does something in a process of its own, whose output goes nowhere; 0 at its end if nothing was raised."""
    pid = os.fork()
    if pid:
        return pid
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        body()
    except BaseException:
        os._exit(1)
    os._exit(0)


def ended(pid: int) -> int:
    """The exit status of a process, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
