"""Reading what was typed: flags and commands by name, numbers, and errors of one line that say what to type."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from fastplast.config import OTHER_FIELDS, ConfigError, flag
from fastplast.config.numbers import read_number, spelling_advice
from fastplast.text import closest, did_you_mean, recognize

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations, whose errors are a ``ConfigError`` of one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Ends with a line about what was typed.

        Args:
            message: of argparse.

        Raises:
            ConfigError: always.
        """
        message = re.sub(r"^argument (.+?): must ", r"\1 must ", message)
        message = re.sub(r"^argument (.+?): expected (.+)$", r"\1 needs \2: got none", message)
        message = message.replace("the following arguments are required:", "needs")
        message = re.sub(r"^argument ", "", message)
        command = self.prog.partition(" ")[2]
        text = f"{message.rstrip('.')}." if message.startswith("-") or not command else f"{command}: {message}."
        raise ConfigError(f"{text} `{self.prog} --help` lists what it takes.")


def with_hyphens(words: Sequence[str]) -> list[str]:
    """What was typed, with the flags' hyphens where underscores are."""
    return [re.sub(r"^--[^=]*", lambda found: found[0].replace("_", "-"), word) for word in words]


def check_flags(words: Sequence[str], parser: argparse.ArgumentParser, command: str) -> None:
    """Refuses a flag that a command does not have.

    Args:
        words: that were typed after the command.
        parser: of the command.
        command: its name, empty of the program itself.

    Raises:
        ConfigError: with the flag that is most like it.
    """
    known = list(flags_of(parser))
    for word in words:
        if word == "--":
            return
        name = word.partition("=")[0]
        if not re.match(r"--|-[A-Za-z]+$", name) or name in known:
            continue
        other = flag(OTHER_FIELDS.get(name.removeprefix("--").replace("-", "_"), ""))
        longer = [flag for flag in known if flag.startswith(name)] if len(name) > 2 else []
        near = f"Did you mean {other}?" if other in known else ""
        near = near or (f"Did you mean {longer[0]}?" if len(longer) == 1 else did_you_mean(name, known))
        place = f"fastplast {command}".strip()
        near = near.replace("'", "") or f"`{place} {'--help-all' if '--help-all' in known else '--help'}` lists them."
        raise ConfigError(f"{place} has no flag {name}. {near}")


def flags_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.Action]:
    """The flags of a parser, and what each does."""
    return parser._option_string_actions


def check_single_values(words: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuses a list after a flag of ``train`` that takes one value, and says what takes several.

    Args:
        words: that were typed after ``train``.
        parser: of ``train``.

    Raises:
        ConfigError: with the sweep that was meant.
    """
    flags, current, values = flags_of(parser), None, []
    for word in [*words, "--"]:
        if not word.startswith("--"):
            values.append(word)
            continue
        action = flags.get(current or "")
        if action is not None and action.metavar == "NAME":
            values = [one for value in values for one in value.split(",") if one]
        if current and action is not None and action.nargs is None and len(values) > 1:
            what = current.removeprefix("--").replace("-", " ")
            plural = f"{what[:-1]}ies" if what.endswith("y") else what if what.endswith("s") else f"{what}s"
            raise ConfigError(
                f"{current} of train takes one value: got {' '.join(values)}. Several {plural} are a sweep: "
                f"fastplast sweep {current} {' '.join(values)} ..."
            )
        current, _, value = word.partition("=")
        values = [value] if value else []


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """A type of the parser: a known name, however its letters are cased.

    Args:
        names: the known ones.

    Returns:
        From what was typed to the name.
    """

    def read(text: str) -> str:
        if (found := recognize(text, names)) is None:
            raise argparse.ArgumentTypeError(f"must be a known name: got {text!r}. {closest(text, names)}"[:-1])
        return found

    return read


def _type_of(kind: Callable[[str], T], words: str) -> Callable[[str], T]:
    """A type of the parser, which says in words what was expected."""

    def read(text: str) -> T:
        try:
            return kind(text)
        except ValueError:
            advice = spelling_advice(text)
            raise argparse.ArgumentTypeError(f"must be {words}: got {text!r}{advice and '.' + advice}") from None

    return read


def _whole(text: str) -> int:
    if not isinstance(found := read_number(text), int):
        raise ValueError(text)
    return found


whole = _type_of(_whole, "a whole number")
number = _type_of(lambda text: float(read_number(text)), "a number")


def _numbers(text: str) -> int | float | list[int | float]:
    parts = [read_number(part) for part in text.split(",") if part.strip()]
    return parts if "," in text or not parts else parts[0]


def _seeds(text: str) -> int | float | list[int | float]:
    if found := re.fullmatch(r"(\d+)(?:-|\.\.)(\d+)", text):
        first, last = map(int, found.groups())
        if last < first:
            raise ValueError
        return list(range(first, last + 1))
    return _numbers(text)


# Numbers between commas, 1e-2,1e-3, or a number by itself; a comma makes a list even of one.
numbers = _type_of(_numbers, "numbers")
seeds = _type_of(_seeds, "a count, seeds, or a range such as 0-9")
