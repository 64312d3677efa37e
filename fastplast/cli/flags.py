"""Flags of the command line that are fields of ``Experiment``: one for each, and back."""

from __future__ import annotations

import argparse
import copy
import dataclasses
from typing import Any

from fastplast.cli.arguments import flags_of, number, numbers, seeds, whole
from fastplast.config import ConfigError, Experiment, Option, flag, option_fields
from fastplast.config.numbers import read_number

GROUPS = {
    "problem": "problem",
    "members": "members (each combination is one more network of the same batch)",
    "methods": "methods (each combination is one more network of the same batch)",
    "network": "network",
    "optimizer": "optimizer",
    "probes": "probes",
    "machine": "machine",
}

LISTS = ("benchmarks", "networks", "methods", "probes", "datasets", "activations", "optimizers", "engines", "figures")
OWN_RUN = {"benchmark": "mnist_shuffle", "activation": "relu", "seeds": 2, "tasks": 2, "epochs": 20}


def add_fields(
    parser: argparse.ArgumentParser, note: str | None = None, several: bool = False, is_hidden: bool = False
) -> None:
    """Adds a flag for every field of ``Experiment``, with `several` values where it may have them in a grid.

    Absent flags stay absent from the result; hidden ones are not in the help.
    """
    kinds = {"int": whole, "float": number}
    groups = {key: parser.add_argument_group(title, note) for key, title in GROUPS.items()}
    for f in dataclasses.fields(Experiment):
        if not f.metadata["group"]:
            continue
        extra: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS if is_hidden else _help(f)}
        kind = str(f.type)
        if kind == "bool":
            extra["action"] = argparse.BooleanOptionalAction
        elif "tuple" in kind:
            kind = str if "str" in kind else seeds if f.name == "seeds" else numbers
            extra |= {"nargs": "+", "type": kind, "metavar": f.name[0].upper()}
        else:
            extra |= {"type": kinds.get(kind.split(" ")[0], str)}
            extra["metavar"] = "NAME" if f.metadata["choices"] else f.name.split("_")[-1].upper()
            if several and f.metadata["group"] != "machine" and f.name not in ("data_dir", "seed_start"):
                extra["nargs"] = "+"
        groups[f.metadata["group"]].add_argument(flag(f.name), **extra)
    for name, _, option in option_fields():
        kind = str if option.choices else numbers
        text = argparse.SUPPRESS if is_hidden else option_help(option)
        groups["methods"].add_argument(flag(name), nargs="+", type=kind, metavar=name.split("_")[-1].upper(),
                                       default=argparse.SUPPRESS, help=text)  # fmt: skip
    views = parser if is_hidden else groups["machine"]  # of the run, and no part of its configuration
    views.add_argument("--tensorboard", metavar="DIR", help="write event files there, for TensorBoard, while training")
    views.add_argument("--wandb", metavar="PROJECT", nargs="?", const="fastplast",
                       help="show the run in Weights & Biases (PROJECT by default: fastplast)")  # fmt: skip
    views.add_argument("--store", metavar="URL", help="send the run there after each task, such as s3://bucket/prefix")


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
    if Experiment.__dataclass_fields__[name].metadata["choices"]:
        return [one for word in words for one in word.split(",") if one]
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


class ShortHelp(argparse.Action):
    """Prints the flags that most runs need; those of a command without others print all."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Prints and ends."""
        formatter, flags = argparse.HelpFormatter(parser.prog, max_help_position=32), flags_of(parser)
        formatter.add_usage(f"{parser.prog} [FLAGS]", (), (), prefix="usage: ")
        formatter.add_text(parser.description)
        formatter.start_section("the flags that most runs need")
        for name, text in SHORT.items():
            if name in flags:
                action = copy.copy(flags[name])
                action.help = text or action.help
                action.option_strings = action.option_strings[-1:] if name == "--help-all" else action.option_strings
                formatter.add_argument(action)
        formatter.end_section()
        parser.exit(0, formatter.format_help())


SHORT: dict[str, str | None] = {  # flag to its help, where its own is long
    "--benchmark": "the problem: `fastplast list benchmarks` (default: mnist_shuffle)",
    "--dataset": "a known dataset, or a path to your images (default: the benchmark's)",
    "--tasks": None,
    "--epochs": None,
    "--seeds": None,
    "--learning-rate": None,
    "--method": "against plasticity loss: `fastplast list methods` (default: none)",
    "--strength": None,
    "--network": "`fastplast list networks` (default: the benchmark's)",
    "--widths": None,
    "--activation": None,
    "--optimizer": None,
    "--srank": None,
    "--engine": None,
    "--threads": None,
    "--grid": None,
    "--config": None,
    "--out": None,
    "--shard": None,
    "--dry-run": None,
    "--yes": None,
    "--quiet": None,
    "--help-all": None,
}
