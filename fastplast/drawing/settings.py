"""Settings: members that differ in nothing but their seed, and the words for what tells settings apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    """

    label: str
    members: tuple[tuple[int, int], ...]
    colour: int


def settings_of(members: pandas.DataFrame, names: Sequence[str]) -> tuple[list[Setting], dict[str, Any]]:
    """Groups members by the hyperparameters that vary.

    Runs are told apart only where they hold the same setting and seed twice; otherwise their members are pooled.

    Args:
        members: of all runs, with a column ``run``: its position.
        names: of the runs.

    Returns:
        The settings, sorted; and the hyperparameters that do not vary, with their values.
    """
    known = members.astype(object).where(members.notna(), None)
    columns = [name for name in known.columns if name not in NOT_SETTINGS]
    varying = [name for name in columns if known[name].map(repr).nunique() > 1]
    constant = {name: known[name].iloc[0] for name in columns if name not in varying}
    if known.duplicated([*varying, "seed"]).any():
        varying.append("run")
    groups: dict[tuple, list[tuple[int, int]]] = {}
    for row in known.to_dict("records"):
        groups.setdefault(tuple(row[name] for name in varying), []).append((int(row["run"]), int(row["member"])))
    keys = sorted(groups, key=lambda key: [_sort_key(name, value) for name, value in zip(varying, key)])
    colours = _colours(varying, keys)
    return [
        Setting(_label(dict(zip(varying, key)), keys, names), tuple(groups[key]), colour)
        for key, colour in zip(keys, colours)
    ], _informative(constant)


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


def _label(values: dict[str, Any], keys: list[tuple], names: Sequence[str]) -> str:
    words = [phrase(name, names[value] if name == "run" else value) for name, value in _informative(values).items()]
    return ", ".join(words) or ("other" if len(keys) > 1 else "")


def _sort_key(name: str, value: Any) -> tuple:
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
