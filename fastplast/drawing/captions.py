"""Words of titles, legends and captions that all figures share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastplast.config import ConfigError
from fastplast.drawing.bands import PARTS
from fastplast.drawing.page import plain
from fastplast.drawing.settings import phrase
from fastplast.text import closest

if TYPE_CHECKING:
    import pandas

IN_TITLE = ("benchmark", "network", "activation")
_LINES = {"mean": "line", "band": "band", "members": "thin lines"}
_DOTS = {"mean": "dot", "band": "bar", "members": "small dots"}
FEW = "†: fewer than 5 members, with a rough interval or none."
CROSSES = "×: a member diverged in this task, and is left out from it on."


def mean_words(are_lines: bool = True, parts: Collection[str] = PARTS, geometric: str = "") -> str:
    """What a line, its band and thin lines are; of one task, a dot, its bar and small dots.

    Args:
        are_lines: whether there are several tasks.
        parts: what is drawn beside means, as of ``draw_members``.
        geometric: of which metrics the means are geometric: ``"all"``, names of some, or empty for none.

    Returns:
        A sentence.
    """
    marks = _LINES if are_lines else _DOTS
    words = [f"{marks['mean'].capitalize()}: {'geometric ' * (geometric == 'all')}mean over members"]
    if geometric not in ("", "all"):
        words[0] += f", geometric of {geometric}"
    words += [f"{marks['band']}: its 95% interval, within what is possible"] if "band" in parts else []
    words += [f"{marks['members']}: members"] if "members" in parts else []
    return f"{'; '.join(words)}."


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


class Labels:
    """The words of a figure: its own, or those given in their place.

    Args:
        given: what would be drawn, the name of a metric, of a field or of a value, to what is drawn.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self._known: dict[str, None] = {}

    def given(self, *names: str) -> str | None:
        """The label of the first of some names that has one, as it was given, with its formulas; None if none has."""
        self._known |= dict.fromkeys(names)
        return next((self._given[name] for name in names if name in self._given), None)

    def value(self, name: str, value: Any) -> str:
        """A value of a field in words.

        Args:
            name: of the field.
            value: which.

        Returns:
            The label of these words, or of the value; else the words, with the label of the field.
        """
        words = phrase(name, value)
        short = words.removeprefix(f"{name.replace('_', ' ')} ")
        own, field = self.given(words, short, str(value)), self.given(name)
        return own or (f"{field} {plain(short)}" if field and short != words else plain(words))

    def check(self) -> None:
        """Checks that every label was drawn.

        Raises:
            ConfigError: if one was not.
        """
        for name in self._given:
            if name not in self._known:
                raise ConfigError(f"labels must name what is drawn: got {name!r}. {closest(name, self._known)}")
