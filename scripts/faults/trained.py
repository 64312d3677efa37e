"""A small run, and what it must hold whatever happened to it."""

from __future__ import annotations

import os
import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import fastplast as fp

FOLDERS = ("metrics", "epochs", "spectra")
_VERSION = b'"schema_version": '
_WORD = re.compile(rb'"[^"\n]*"|[-+.\w]+|[\[\]{},:=]')
_WORDS = (
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"inf",
    b"4611686018427387904",
    b"9" * 5000,
    b'""',
    b'"../x"',
)
_WORDS += (
    b'"\\u0000"',
    b'"\\ud800"',
    b'"' + b"a" * 1000 + b'"',
    b"[]",
    b"{}",
    b"[[1, [2]]]",
    b"0x" + b"f" * 5000,
    b"[" * 2000,
    b'{"a": {}}',
)


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
            fp.resume(path, progress=False)
        else:
            fp.train(experiment(path, **changes), progress=False)


def results(path: Path) -> dict[str, bytes]:
    """The parts of a run and its manifest."""
    found = [path / "manifest.jsonl", *(part for folder in FOLDERS for part in (path / folder).iterdir())]
    return {str(part.relative_to(path)): part.read_bytes() for part in found}


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Data with a part cut, a bit flipped, a part doubled, overwritten or spelt otherwise, or all of it replaced.

    Args:
        rng: decides how and where.
        data: a file's content.

    Returns:
        The content to try.
    """
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(7)
    if kind == 0:
        return data[:at]
    if kind == 1 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[at : at + 64] + data[at:]
    if kind == 3:
        return data[:at] + rng.randbytes(8) + data[at + 8 :]
    if kind == 4 and (words := list(_WORD.finditer(data))):
        word = rng.choice(words)
        return data[: word.start()] + rng.choice([*_WORDS, rng.choice(words)[0]]) + data[word.end() :]
    if kind == 5 and (newer := data.replace(_VERSION + b"1", _VERSION + b"2")) != data:
        return newer
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
