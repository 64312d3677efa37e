"""Errors of what a user registered: each says what, which of its functions, and at which update or task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class RegisteredError(RuntimeError):
    """An error of something registered: says which, which of its functions, and when."""


@contextmanager
def named(place: str, kind: str, error: type[RegisteredError] = RegisteredError) -> Iterator[None]:
    """Gives whatever is raised within a name.

    Args:
        place: where, such as ``after_update of the method 'fade' at update 12``.
        kind: of what is to be corrected.
        error: to be raised.

    Yields:
        Nothing.

    Raises:
        RegisteredError: whatever was raised.
        OutOfMemoryError: if memory does not suffice.
    """
    try:
        yield
    except RegisteredError:
        raise
    except Exception as cause:
        if type(cause).__name__ == "OutOfMemoryError":  # of PyTorch, which is not imported for a name
            raise
        raise error(
            f"{place} failed: {type(cause).__name__}: {cause}. The run's last checkpoint is intact: correct the "
            f"{kind}, register it and resume."
        ) from cause
