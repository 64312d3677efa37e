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
