"""Settings: members that differ in nothing but their seed, and the words for what tells settings apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.config import ACTIVATIONS, METHOD_NAMES

if TYPE_CHECKING:
    import pandas

# Columns of the members that are no hyperparameters: who a member is, and where and how long it was trained.
NOT_SETTINGS = ("run", "member", "id", "seed", "tasks", "engine", "data_source")
_WITHOUT_NAME = ("run", "benchmark", "network", "activation", "optimizer", "method")
# A method, and an activation, has one colour in every figure in which each setting has its own.
_ORDERED = {"method": METHOD_NAMES, "activation": ACTIVATIONS}


@dataclass(frozen=True)
class Setting:
    """Members that differ in nothing but their seed.

    Attributes:
        label: only what tells it from the other settings; empty if it is the only one.
        members: (run, member) of each.
        colour: index into the palette.
        dash: style of its mean; that of the colour's index if None.
    """

    label: str
    members: tuple[tuple[int, int], ...]
    colour: int
    dash: str | None = None


def varying_fields(members: pandas.DataFrame) -> list[str]:
    """The hyperparameters in which members differ.

    Args:
        members: a row each; None where a hyperparameter is absent.

    Returns:
        Their columns.
    """
    return [name for name in members.columns if name not in NOT_SETTINGS and members[name].map(repr).nunique() > 1]


def settings_of(
    members: pandas.DataFrame, names: Sequence[str], say: Callable[[str, Any], str] | None = None
) -> tuple[list[Setting], dict[str, Any]]:
    """Groups members by the hyperparameters that vary.

    Runs are told apart only where they hold the same setting and seed twice; otherwise their members are pooled.

    Args:
        members: of all runs, with a column ``run``: its position.
        names: of the runs.
        say: a hyperparameter and its value to words; ``phrase`` if None.

    Returns:
        The settings, sorted; and the hyperparameters that do not vary, with their values.
    """
    known = members.astype(object).where(members.notna(), None)
    varying = varying_fields(known)
    constant = {name: known[name].iloc[0] for name in known.columns if name not in (*NOT_SETTINGS, *varying)}
    if known.duplicated([*varying, "seed"]).any():
        varying.append("run")
    groups: dict[tuple, list[tuple[int, int]]] = {}
    for row in known.to_dict("records"):
        groups.setdefault(tuple(row[name] for name in varying), []).append((int(row["run"]), int(row["member"])))
    keys = sorted(groups, key=lambda key: [sort_key(name, value) for name, value in zip(varying, key)])
    colours = _colours(varying, keys)
    return [
        Setting(_label(dict(zip(varying, key)), keys, names, say or phrase), tuple(groups[key]), colour)
        for key, colour in zip(keys, colours)
    ], _informative(constant)


def colours_of(name: str, values: Sequence[Any], count: int) -> list[int]:
    """Colours of the values of one field.

    A method, and an activation, has its own colour, except where one before it in the figure has it.

    Args:
        name: of the field.
        values: in the order in which they are drawn.
        count: colours of the palette, which are given once each before one is given again.

    Returns:
        Indices into the palette.
    """
    order, found = _ORDERED.get(name, ()), list[int]()
    if not all(value in order for value in values) or len(values) > count:
        return list(range(len(values)))
    own = [order.index(value) for value in values]
    taken = {index for index in own if index < count}
    for index in own:
        free = [one for one in range(count) if one not in taken]
        found.append(index if index < count else index % count if index % count in free else free[0])
        taken.add(found[-1])
    return found


def palette() -> list[str]:
    """The colours of the style that every figure has, for what is drawn without matplotlib.

    Returns:
        ``"#0072B2"`` and so on.
    """
    style = (Path(__file__).parent / "fastplast.mplstyle").read_text(encoding="utf-8")
    cycle = re.search(r'^axes.prop_cycle: cycler\("color", \[(.*)\]\)$', style, re.MULTILINE)
    return [f"#{colour}" for colour in re.findall(r'"(\w{6})"', cycle[1])] if cycle else []


def phrase(name: str, value: Any) -> str:
    """A hyperparameter in words.

    Args:
        name: of the hyperparameter.
        value: its value.

    Returns:
        For example ``relu`` or ``learning rate 0.001``.
    """
    if (name, value) == ("method", "none"):
        return "no method"
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return text if name in _WITHOUT_NAME else f"{name.replace('_', ' ')} {text}"


def _informative(values: dict[str, Any]) -> dict[str, Any]:
    """What is worth saying: no absent value, and nothing of how strong no method is."""
    silent = ("strength", "reduction") if values.get("method") == "none" else ()
    return {name: value for name, value in values.items() if value is not None and name not in silent}


def _label(values: dict[str, Any], keys: list[tuple], names: Sequence[str], say: Callable[[str, Any], str]) -> str:
    words = [say(name, names[value] if name == "run" else value) for name, value in _informative(values).items()]
    return ", ".join(words) or ("other" if len(keys) > 1 else "")


def sort_key(name: str, value: Any) -> tuple:
    """Where a value of a hyperparameter stands among others: methods and activations as in the lists, numbers by size.

    Args:
        name: of the hyperparameter.
        value: its value.

    Returns:
        To sort by.
    """
    if value in _ORDERED.get(name, ()):
        return (0, _ORDERED[name].index(value), "")
    if isinstance(value, (int, float)):
        return (1, value, "")
    return (2, 0, "" if value is None else str(value))


def _colours(varying: list[str], keys: list[tuple]) -> list[int]:
    for name, order in _ORDERED.items():
        values = [key[varying.index(name)] for key in keys] if name in varying else []
        if values and len(set(values)) == len(values) and all(value in order for value in values):
            return [order.index(value) for value in values]
    return list(range(len(keys)))
