"""Numbers that are typed: read by one rule, that of Python, which grid files (TOML) and configurations (JSON) share."""

from __future__ import annotations

import re


def read_number(text: str) -> int | float:
    """A number as Python reads it: ``10``, ``1_000``, ``-0.5``, ``.5e3``; a whole one stays whole.

    Args:
        text: what was typed.

    Returns:
        The number.

    Raises:
        ValueError: if it is none. ``010`` is none: some read ten in it, and others eight.
    """
    text = text.strip()
    if re.match(r"[+-]?0[0-9_]", text):
        raise ValueError(text)
    try:
        return int(text)
    except ValueError:
        return float(text)


def spelling_advice(text: str) -> str:
    """How to write the number that a text nearly is; empty if there is nothing to say.

    Args:
        text: what was typed, or a line of a file.

    Returns:
        Sentences, with a space before.
    """
    if re.fullmatch(r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*", text):
        return f" Write a decimal point: {text.strip().replace(',', '.')}."
    if re.search(r"(?<![\w.+-])[+-]?0\d", text):
        return " Write numbers without leading zeros: 10 for 010."
    if re.search(r"(?<![\w.])[+-]?\.\d", text):
        return " Write a digit before the point: 0.5 for .5."
    return ""
