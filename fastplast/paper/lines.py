"""Which members make a line of a panel: those of one value of a field, under the best of what else they vary in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastplast.config import ACTIVATIONS, BENCHMARKS, METHOD_NAMES
from fastplast.drawing.choice import Line, choose, with_same_seeds
from fastplast.drawing.settings import phrase
from fastplast.paper.results import FigureData, Frame

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
        chosen, by = choose(part, data.errors, varying, field)
        part = in_panel(part, chosen)
    lines = []
    for value in values_of(part, field):
        own, of_line, seeds = part[part[field] == value], chosen, by
        if varying := data.varying(own, known):
            of_line, seeds = choose(own, data.errors, varying)
            own = in_panel(own, of_line)
        members = tuple((int(run), int(member)) for run, member in zip(own["run"], own["member"]))
        colour = colour_index(data.means, field, value)
        found = {"value": value, "seeds": frozenset(own["seed"]), "chosen": of_line, "by": seeds}
        lines.append(Line(words(field, value), members, colour, **found))
    means = data.means
    return with_same_seeds(lines, dict(zip(zip(means["run"], means["member"]), means["seed"])))
