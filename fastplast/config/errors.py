"""The error that every wrong configuration ends in."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration that breaks a rule. The text says the rule, what came, and what to do.

    Args:
        text: the message.
        fields: of ``Experiment`` that break the rule, the first of them to be corrected.
    """

    def __init__(self, text: str, *fields: str) -> None:
        super().__init__(text)
        self.fields = fields


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
