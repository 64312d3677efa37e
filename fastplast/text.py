"""Texts that several rooms write: quantities in words, and the known names that a wrong one is answered with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def duration(seconds: float, decimals: bool = False) -> str:
    """Seconds in words: ``45 s``, ``12 min``, ``3 h 05 min``; with decimals ``45.2 s``, ``12.3 min``, ``3.1 h``."""
    if decimals:
        length, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
        return f"{seconds / length:.1f} {unit}"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in words: ``812 B``, ``4.2 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is most like an unknown one: ``Did you mean 'relu'?``, or nothing if none is."""
    match = difflib.get_close_matches(str(name), list(known), n=1)
    return f"Did you mean {match[0]!r}?" if match else ""


def closest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the closest match and the list.

    Args:
        name: what came.
        known: the names there are.

    Returns:
        For example ``Did you mean 'relu'? Known: relu, tanh.``
    """
    known = list(known)
    return f"{did_you_mean(name, known)} Known: {', '.join(known)}.".lstrip()
