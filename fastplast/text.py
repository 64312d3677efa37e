"""Texts that several rooms write: quantities in words, lines that fit a terminal, and known names for a wrong one."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping


def duration(seconds: float, decimals: bool = False) -> str:
    """Seconds in words: ``45 s``, ``3 h 05 min``, ``13 d 4 h``; with decimals ``45.2 s``, ``3.1 h``."""
    if decimals:
        length, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
        return f"{seconds / length:.1f} {unit}"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h" if hours >= 72 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in words: ``812 B``, ``4.2 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None if it is none."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


def fitted(text: str, indent: int = 0) -> str:
    """Lines of a name and what is said of it, broken where a terminal would break them amid words.

    Args:
        text: as ``hang`` takes it.
        indent: likewise.

    Returns:
        The same where standard output is no terminal.
    """
    width = terminal_width()
    return text if width is None else hang(text, width, indent)


def hang(text: str, columns: int, indent: int = 0) -> str:
    """Breaks lines of a name and what is said of it, so that the second line begins under the text of the first.

    Args:
        text: lines, with two spaces or more before the text of each.
        columns: that a line may have.
        indent: of the second line where the first has no such spaces.

    Returns:
        The same words; a word that is longer than a line stays whole.
    """
    lines = []
    for line in text.split("\n"):
        ends = [gap.end() for gap in re.finditer(r"^ +|(?<=\S)  +", line) if gap.end() <= columns * 2 // 3]
        under = " " * max(ends, default=indent)
        wrapped = textwrap.wrap(line, columns, subsequent_indent=under, break_long_words=False, break_on_hyphens=False)
        lines += wrapped if len(line) > columns else [line]
    return "\n".join(lines)


def _plain(name: str) -> str:
    """A name without what people write differently: case, hyphens, underscores, spaces."""
    return "".join(letter for letter in name.casefold() if letter not in "-_ ")


def recognize(name: str, known: Iterable[str], other_names: Mapping[str, str] | None = None) -> str | None:
    """The known name that is meant: the name itself, or the one that is written alike, or is called so as well.

    Args:
        name: what came.
        known: the names there are.
        other_names: other names, as lower case letters and digits alone, to the known ones.

    Returns:
        The known name; None if there is none, or more than one.
    """
    known = list(known)
    if name in known:
        return name
    alike = [one for one in known if _plain(one) == _plain(name)]
    other = (other_names or {}).get(_plain(name))
    return alike[0] if len(alike) == 1 else other if other in known else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is most like an unknown one: ``Did you mean 'relu'?``, or nothing if none is."""
    plain = {_plain(one): one for one in known}
    match = difflib.get_close_matches(_plain(str(name)), plain, n=1)
    return f"Did you mean {plain[match[0]]!r}?" if match else ""


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
