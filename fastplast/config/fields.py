"""Fields of a configuration: help, group of flags, and the rule that each obeys by itself, from its type or its own."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fastplast.config.errors import ConfigError, flag, shown
from fastplast.config.names import DATASET_NAMES, OTHER_NAMES
from fastplast.config.own import known_names
from fastplast.text import closest, recognize


class Bound(NamedTuple):
    """What a number of a field, or each of several, must be.

    Attributes:
        one: the rule in words, with a place for what kind of number it is.
        several: the same of several numbers.
        holds: the test.
    """

    one: str
    several: str
    holds: Callable[[float], bool]


POSITIVE = Bound("a positive {}", "positive {}s", lambda number: number > 0)
AT_LEAST_ZERO = Bound("a {} of at least 0", "{}s of at least 0", lambda number: number >= 0)
AT_LEAST_ONE = Bound("a {} of at least 1", "{}s of at least 1", lambda number: number >= 1)
FRACTION = Bound("in [0, 1)", "in [0, 1)", lambda number: 0 <= number < 1)


def option(
    default: Any, text: str, group: str, choices: tuple[str, ...] | None = None, rule: Bound | None = AT_LEAST_ONE
) -> Any:
    """A field of ``Experiment``.

    Args:
        default: its default; None where something else decides, and None is then allowed.
        text: its help.
        group: of flags; empty for a field without a flag.
        choices: known names, where it takes one.
        rule: of its numbers; None where only other fields say what is allowed.

    Returns:
        The dataclass field.
    """
    return dataclasses.field(default=default, metadata={"help": text, "group": group, "choices": choices, "rule": rule})


CHOICES: dict[str, tuple[str, ...]] = {}  # field of ``Experiment`` to its known names


_KEPT = (list, tuple, Mapping, os.PathLike)


def as_plain(value: Any) -> Any:
    """Numbers and arrays of NumPy, PyTorch and the like as Python's numbers and lists; other iterables as lists.

    Args:
        value: anything; lists and tuples are looked into.

    Returns:
        The same of plain values.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Iterator) or (isinstance(value, Iterable) and not isinstance(value, (*_KEPT, str, bytes))):
        return [as_plain(one) for one in value]
    if type(value) is tuple:
        return tuple(map(as_plain, value))
    return [as_plain(one) for one in value] if type(value) is list else value


def is_whole(value: Any) -> bool:
    """Whether a value is an integer that 64 bits hold; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; True and False are not."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # which NaN is not, nor an integer that no float holds


def check_fields(experiment: Any) -> None:
    """Checks every field by itself.

    Args:
        experiment: an instance of a dataclass whose fields are options.

    Raises:
        ConfigError: with the rule, what came and what to do.
    """
    for f in dataclasses.fields(experiment):
        value = getattr(experiment, f.name)
        if f.metadata["rule"] is None or value is f.default:
            continue
        if f.metadata["choices"]:
            _check_name(f, value)
        elif broken := _broken_rule(f, value):
            if any(isinstance(x, int) and abs(x) >= 2**63 for x in (value if isinstance(value, tuple) else (value,))):
                broken += ", below 2^63"
            raise ConfigError(f"{flag(f.name)} must be {broken}: got {shown(value)}.", f.name)


def as_known(name: str, value: Any) -> Any:
    """A name as results have it, whatever its case, or what else it is called.

    Args:
        name: of the field.
        value: anything.

    Returns:
        The known name; the value where it is none.
    """
    if not isinstance(value, str) or value in CHOICES.get(name, ()):
        return value
    known = known_names(name, DATASET_NAMES if name == "dataset" else CHOICES.get(name, ()))
    return recognize(value, known, OTHER_NAMES.get(name)) or value


def _check_name(f: dataclasses.Field[Any], value: Any) -> None:
    if isinstance(value, str) and value in f.metadata["choices"]:
        return
    known = known_names(f.name, f.metadata["choices"])
    is_numbered_gpu = f.name == "device" and isinstance(value, str) and re.fullmatch(r"cuda:\d+", value)
    is_module = f.name == "network" and isinstance(value, str) and value.startswith("module:")
    is_several = isinstance(value, tuple) and "tuple" in str(f.type)
    for name in value if is_several else (value,):
        if not (is_module or is_numbered_gpu) and name not in known:
            hint = "Write 'off' with quotes." if name is False and "off" in known else closest(shown(name), known)
            raise ConfigError(f"{flag(f.name)} must be a known name: got {shown(name)}. {hint}", f.name)


def _broken_rule(f: dataclasses.Field[Any], value: Any) -> str | None:
    """What a value of the field's type must be and is not; None if it is."""
    kind, rule = str(f.type), f.metadata["rule"]
    if kind == "bool":
        return None if isinstance(value, bool) else "true or false"
    if kind.startswith("str"):
        return None if isinstance(value, str) and value else "a path"
    is_one, words = (is_whole, "whole number") if "int" in kind else (is_number, "number")
    if "tuple" not in kind:
        return None if is_one(value) and rule.holds(value) else rule.one.format(words)
    holds = isinstance(value, tuple) and len(value) > 0 and all(is_one(x) and rule.holds(x) for x in value)
    return None if holds else rule.several.format(words)
