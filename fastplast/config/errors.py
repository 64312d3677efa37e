"""The error that every wrong configuration ends in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Whether errors name flags, as the command line does, and not fields, as Python does.
_names_flags: ContextVar[bool] = ContextVar("names_flags", default=False)


@contextmanager
def naming_flags() -> Iterator[None]:
    """Within it, errors name flags: ``--learning-rate`` and not ``learning_rate``.

    Yields:
        Nothing.
    """
    token = _names_flags.set(True)
    try:
        yield
    finally:
        _names_flags.reset(token)


def _as_fields(text: str) -> str:
    """A text with the names of fields in place of flags, but in commands, which stand between backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"--([a-z][a-z0-9-]*)", lambda found: found[1].replace("-", "_"), part) for part in parts[::2]]
    return "`".join(parts)


class ConfigError(ValueError):
    """A configuration that breaks a rule. The text says the rule, what came, and what to do.

    It names fields, as in Python, or within ``naming_flags`` the flags of the command line.

    Args:
        text: the message.
        fields: of ``Experiment`` that break the rule, the first of them to be corrected.
    """

    def __init__(self, text: str, *fields: str) -> None:
        super().__init__(text)
        self.fields = fields

    def __str__(self) -> str:
        text = super().__str__()
        return text if _names_flags.get() else _as_fields(text)


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def shown(value: object) -> str:
    """A value in a message: its first 200 characters, for it may be of any size."""
    if isinstance(value, int) and abs(value) >= 10**200:  # Python refuses to write those of 4,300 digits
        return f"an integer of {value.bit_length():,} bits"
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} of enormous numbers"
    return text if len(text) <= 200 else f"{text[:200]}..."
