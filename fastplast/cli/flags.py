"""Flags of the command line that are fields of ``Experiment``: one for each, and back."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from fastplast.config import ConfigError, Experiment, Option, flag, option_fields
from fastplast.config.numbers import read_number, spelling_advice

T = TypeVar("T")
GROUPS = {
    "problem": "problem",
    "members": "members (each combination is one more network of the same batch)",
    "methods": "methods (each combination is one more network of the same batch)",
    "network": "network",
    "optimizer": "optimizer",
    "probes": "probes",
    "machine": "machine",
}


def add_fields(parser: argparse.ArgumentParser, note: str | None = None, several: bool = False) -> None:
    """Adds a flag for every field of ``Experiment``, with `several` values where it may have them in a grid.

    Absent flags stay absent from the result.
    """
    groups = {key: parser.add_argument_group(title, note) for key, title in GROUPS.items()}
    for f in dataclasses.fields(Experiment):
        if not f.metadata["group"]:
            continue
        extra: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(f)}
        kind = str(f.type)
        if kind == "bool":
            extra["action"] = argparse.BooleanOptionalAction
        elif "tuple" in kind:
            kind = str if "str" in kind else numbers
            extra |= {"nargs": "+", "type": kind, "metavar": f.name[0].upper()}
        else:
            extra |= {"type": {"int": whole, "float": number}.get(kind.split(" ")[0], str)}
            extra["metavar"] = "NAME" if f.metadata["choices"] else f.name.split("_")[-1].upper()
            if several and f.metadata["group"] != "machine" and f.name not in ("data_dir", "seed_start"):
                extra["nargs"] = "+"
        groups[f.metadata["group"]].add_argument(flag(f.name), **extra)
    for name, _, option in option_fields():
        kind = str if option.choices else numbers
        groups["methods"].add_argument(flag(name), nargs="+", type=kind, metavar=name.split("_")[-1].upper(),
                                       default=argparse.SUPPRESS, help=option_help(option))  # fmt: skip
    views = groups["machine"]  # of the run, and no part of its configuration
    views.add_argument("--tensorboard", metavar="DIR", help="write event files there, for TensorBoard, while training")
    views.add_argument("--wandb", metavar="PROJECT", nargs="?", const="fastplast",
                       help="show the run in Weights & Biases (PROJECT by default: fastplast)")  # fmt: skip


def _help(f: dataclasses.Field[Any]) -> str:
    text = f.metadata["help"]
    if f.metadata["choices"]:
        text += f": {', '.join(f.metadata['choices'])}"
    if f.default is None or "default" in text:
        return text
    default = ", ".join(map(str, f.default)) if isinstance(f.default, tuple) else f.default
    return f"{text} (default: {default})"


def option_help(option: Option) -> str:
    """What a hyperparameter of a method is, its choices and its default."""
    choices = f": {', '.join(option.choices)}" if option.choices else ""
    return f"{option.help}{choices} (default: {option.default})"


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


def _between_commas(text: str) -> int | float | list[int | float]:
    parts = [read_number(part) for part in text.split(",") if part.strip()]
    return parts if "," in text or not parts else parts[0]


# Numbers between commas, 1e-2,1e-3, or a number by itself; a comma makes a list even of one.
numbers = _type_of(_between_commas, "numbers")


def fields_from(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``Experiment`` among parsed options.

    Args:
        options: from the parser; lists are lists of numbers and of lists of numbers.

    Returns:
        Field to value; ``--seeds 30`` is a count, ``--seeds 3,7`` and ``--seeds 3 7`` are lists.
    """
    fields = {}
    for name in Experiment.__dataclass_fields__:
        if name not in options:
            continue
        value = options[name]
        if isinstance(value, list):
            flat = _flat(value)
            value = value[0] if name == "seeds" and len(value) == 1 and not isinstance(value[0], list) else flat
        fields[name] = value
    given = {name: _flat(options[name]) for name, _, _ in option_fields() if name in options}
    return fields | ({"options": given} if given else {})


def _flat(words: list[Any]) -> tuple[Any, ...]:
    """Lists of numbers between commas, and numbers by themselves, as one."""
    return tuple(item for part in words for item in (part if isinstance(part, list) else [part]))


def values_of(name: str, words: list[Any]) -> Any:
    """What was typed after a flag of several values: with commas, a list is one value of ``--widths``.

    Args:
        name: of the field.
        words: from the parser.

    Returns:
        The field's values in a grid.
    """
    if name in ("widths", "channels"):
        nested = any(isinstance(word, list) for word in words)
        return [word if isinstance(word, list) else [word] for word in words] if nested else words
    if name not in Experiment.__dataclass_fields__:  # of a method
        return list(_flat(words))
    flat = fields_from({name: words})[name]
    return flat if isinstance(flat, int) else list(flat)


def pairs_of(name: str, typed: list[str], several: bool = False) -> dict[str, Any]:
    """What was typed as ``KEY=VALUE``.

    Args:
        name: of the flag.
        typed: each after the flag.
        several: whether values are lists, between commas, of numbers where they read as such.

    Returns:
        Key to value.

    Raises:
        ConfigError: if one has no key or no value.
    """
    found: dict[str, Any] = {}
    for text in typed:
        key, _, value = text.partition("=")
        if not key or not value:
            raise ConfigError(f"--{name} must be KEY=VALUE: got {text!r}.")
        found[key] = [_number_or_text(one) for one in value.split(",")] if several else value
    return found


def _number_or_text(text: str) -> float | str:
    try:
        return float(read_number(text))
    except ValueError:
        return text
