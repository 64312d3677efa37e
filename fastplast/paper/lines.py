"""Which members make a line of a panel: those of one value of a field, under the best of what else they vary in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastplast.config import ACTIVATIONS, BENCHMARKS, METHOD_NAMES
from fastplast.drawing.settings import Setting, phrase
from fastplast.paper.results import FigureData, Frame
from fastplast.stats import split_seeds

# A value has one place in every figure.
ORDER: dict[str, tuple] = {"activation": ACTIVATIONS, "method": METHOD_NAMES, "benchmark": tuple(BENCHMARKS)}
# And one colour. Of variants, those that share a figure differ in it; 7 and more are of other line styles.
_VARIANTS = {"relu": 0, "leaky_relu": 1, "tanh": 2, "identity": 3, "relu + l2": 4, "relu + regenerative": 5,
             "relu + wasserstein": 6, "crelu": 11, "relu + layer norm": 12, "relu + dropout 0.5": 8,
             "relu + last-layer reset": 9}  # fmt: skip
ABLATED = ("strength", "epochs")  # lines of one panel have all else in common
WORDS = {
    "l2": "weight decay (L2)",
    "none": "no regulariser",
    "relu + l2": "relu + weight decay (L2)",
    "mnist_shuffle": "label-shuffled MNIST",
    "mnist_permute": "observation-permuted MNIST",
    "cifar_shuffle": "label-shuffled CIFAR-10",
    "cifar_permute": "pixel-permuted CIFAR-10",
}


@dataclass(frozen=True)
class Line(Setting):
    """A setting that is drawn as one line.

    Attributes:
        value: of the field that tells lines apart; ``label`` has it in words.
        seeds: of its members.
        step_sizes: of its members.
        chosen: hyperparameter to the value that was chosen; empty where there was no choice.
        by: seeds that chose and are not drawn; empty where drawn ones did; None where there was no choice.
    """

    value: Any
    seeds: frozenset[int]
    step_sizes: tuple[float, ...]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    by: tuple[int, ...] | None = None


def words(name: str, value: Any) -> str:
    """A value of a field as panels and legends have it."""
    return WORDS.get(value) or (
        value if name == "variant" else phrase(name, value).replace("learning rate", "step size")
    )


def values_of(means: Frame, field: str) -> list[Any]:
    """The values of a field, in the order in which they are drawn.

    Args:
        means: one row per member.
        field: a hyperparameter.

    Returns:
        Distinct values.
    """
    order = ORDER.get(field, tuple(_VARIANTS) if field == "variant" else ())
    values = means[field].dropna().unique().tolist()
    return sorted(values, key=lambda value: (order.index(value), 0) if value in order else (len(order), value))


def colour_index(means: Frame, field: str, value: Any) -> int:
    """Where in the palette a value's colour is."""
    if field == "variant" and value in _VARIANTS:
        return _VARIANTS[value]
    order = ORDER.get(field, ())
    return order.index(value) if value in order else len(order) + values_of(means, field).index(value)


def in_panel(means: Frame, panel: Mapping[str, Any]) -> Frame:
    """The members that belong into a panel.

    Args:
        means: one row per member.
        panel: field to value.

    Returns:
        Rows of `means`.
    """
    for name, value in panel.items():
        means = means[means[name] == value]
    return means


def lines_of(data: FigureData, field: str, panel: Mapping[str, Any]) -> list[Line]:
    """The lines of a panel.

    Where members of a line differ in more than their seed, the setting of least mean error is drawn: chosen on seeds
    that are not drawn where there are at least four, else on those that are. All lines of a panel in which something
    was chosen have the same seeds.

    Args:
        data: of the figure.
        field: that tells lines apart.
        panel: field to value.

    Returns:
        A line for each value that the panel has.
    """
    part = in_panel(data.means, panel)
    known = (field, *panel)
    chosen, by = {}, None
    if field in ABLATED and (varying := data.varying(part, known)):
        chosen, by = choose(data, part, varying, field)
        part = in_panel(part, chosen)
    lines = []
    for value in values_of(part, field):
        own, of_line, seeds = part[part[field] == value], chosen, by
        if varying := data.varying(own, known):
            of_line, seeds = choose(data, own, varying)
            own = in_panel(own, of_line)
        members = tuple((int(run), int(member)) for run, member in zip(own["run"], own["member"]))
        colour = colour_index(data.means, field, value)
        steps = tuple(sorted(set(own["learning_rate"])))
        lines.append(Line(words(field, value), members, colour, value, frozenset(own["seed"]), steps, of_line, seeds))
    return _of_same_seeds(data, lines) if any(line.chosen for line in lines) else lines


def _of_same_seeds(data: FigureData, lines: Sequence[Line]) -> list[Line]:
    used = {seed for line in lines for seed in line.by or ()}
    shared = frozenset.intersection(*(line.seeds for line in lines)) - used
    seed_of = dict(zip(zip(data.means["run"], data.means["member"]), data.means["seed"]))
    narrowed = []
    for line in lines:
        seeds = shared or (line.seeds - used) or line.seeds
        members = tuple(member for member in line.members if seed_of[member] in seeds)
        narrowed.append(dataclasses.replace(line, members=members, seeds=seeds))
    return narrowed


def choose(
    data: FigureData, members: Frame, varying: Sequence[str], ablated: str | None = None
) -> tuple[dict[str, Any], tuple[int, ...] | None]:
    """The setting of least mean error over the tasks and seeds that all candidates have.

    Settings of fewer than half as many seeds as the best covered one are no candidates; where a field is ablated, those
    with fewer of its values are none, and a setting is as good as at the best of these values.

    Args:
        data: of the figure.
        members: rows of ``means``.
        varying: hyperparameters that tell settings apart.
        ablated: the field whose values are all drawn.

    Returns:
        Hyperparameter to value, and the seeds that chose: none where drawn ones did, None where one candidate was left.
    """
    import numpy as np

    keys = [*varying, *([ablated] if ablated else [])]
    members = members.dropna(subset=keys)
    count = members.groupby(list(varying))[ablated or "seed"].transform("nunique")
    members = members[count == count.max()] if ablated else members[2 * count >= count.max()]
    parts = [part for _, part in members.groupby(keys)]
    if len(parts) == 1:
        return {name: members[name].iloc[0] for name in varying}, None
    choosing, reporting = split_seeds(set.intersection(*(set(part["seed"]) for part in parts)))
    fair = choosing != reporting
    errors = data.errors
    tasks = errors.columns[: int(members["tasks"].min())]
    best, least = parts[0], np.inf
    for part in parts:
        own = part[part["seed"].isin(choosing)] if choosing else part
        found = errors.reindex(list(zip(own["run"], own["member"])))[tasks].to_numpy().mean()
        if found < least:  # a setting with a member that diverged has no mean
            best, least = part, found
    return {name: best[name].iloc[0] for name in varying}, choosing if fair else ()
