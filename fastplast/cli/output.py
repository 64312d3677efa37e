"""Standard output of commands that train: streams that never fail.

Whoever read the output of training may go, or the disk under it be full, and training goes on.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

TRAINING = ("train", "resume", "sweep", "figure")


class _Lasting(io.TextIOBase):
    """A stream whose first failed write is its last: what follows goes nowhere.

    Args:
        stream: standard output or standard error.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._is_gone = stream, False

    def close(self) -> None:
        """Nothing: the stream is its owner's, and outlasts this view of it."""

    def write(self, text: str) -> int:
        if self._is_gone:
            return len(text)
        try:
            self._stream.write(text)
            if "\n" in text:
                self._stream.flush()  # here, where a failure is nobody else's
        except (OSError, ValueError):  # ValueError: it is closed
            self._give_up()
        return len(text)

    def flush(self) -> None:
        try:
            if not self._is_gone:
                self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        # What its buffer holds goes nowhere too: Python writes it once more when it ends.
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            self._is_gone = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - of the stream
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride] - of the stream
        return self._stream.errors


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Makes standard output and standard error streams that do not fail, as long as it is open.

    Yields:
        Nothing.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Lasting(stream) for stream in before)  # None: closed before this program
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # where a failure is nobody's
        sys.stdout, sys.stderr = before
