"""Words of titles, legends and captions that all figures share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

IN_TITLE = ("benchmark", "network", "activation")
BANDS = "Line: mean over members; band: its 95% interval, within what is possible; thin lines: members."
FEW = "†: fewer than 5 members, with a rough interval or none."
CROSSES = "×: a member diverged in this task, and is left out from it on."


def title_words(table: pandas.DataFrame) -> list[str]:
    """Problem, network and activation of members; how many where there are more than two.

    Args:
        table: with columns that describe members.

    Returns:
        For example ``["mnist_shuffle", "mlp", "4 activations"]``.
    """
    words = []
    for name in IN_TITLE:
        values = sorted(set(table[name].dropna())) if name in table else []
        words.append(", ".join(map(str, values)) if len(values) <= 2 else f"{len(values)} {name}s")
    return [word for word in words if word]


def seed_words(seeds: Iterable[int]) -> str:
    """Seeds as a range where they have no gap: ``seeds 0 to 29``, ``seeds 1, 5``, ``seed 3``."""
    known = sorted({int(seed) for seed in seeds})
    whole = len(known) > 2 and known == list(range(known[0], known[-1] + 1))
    words = f"{known[0]} to {known[-1]}" if whole else ", ".join(map(str, known))
    return f"seed{'s' * (len(known) > 1)} {words}"


def span(counts: Iterable[int], form: str = "") -> str:
    """The least and the greatest of some counts: ``3``, ``3 to 10``.

    Args:
        counts: at least one.
        form: how a number is written, as ``format`` takes it.

    Returns:
        One number, or two.
    """
    known = sorted({int(count) for count in counts})
    return f"{known[0]:{form}}" if len(known) == 1 else f"{known[0]:{form}} to {known[-1]:{form}}"


def count_words(counts: Iterable[int], diverged: int, few: str = "") -> str:
    """Members of a line, and how many of them diverged: ``n = 10, 2 diverged ×``; `few` is a sign for fewer than 5."""
    counts = list(counts)
    return f"n = {span(counts)}{f' {few}' * bool(few and min(counts) < 5)}" + (
        f", {diverged} diverged ×" if diverged else "")  # fmt: skip
