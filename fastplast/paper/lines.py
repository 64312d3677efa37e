"""Which members make a line of a panel: those of one value of a field, under the best of what else they vary in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastplast.config import ACTIVATIONS, BENCHMARKS, METHOD_NAMES
from fastplast.drawing.settings import Setting, phrase
from fastplast.paper.results import FigureData, Frame
from fastplast.stats import select, split_seeds

# A value has one place, and one colour, in every figure.
ORDER = {"activation": ACTIVATIONS, "method": METHOD_NAMES, "benchmark": tuple(BENCHMARKS)}


@dataclass(frozen=True)
class Line(Setting):
    """A setting that is drawn as one line.

    Attributes:
        value: of the field that tells lines apart; ``label`` has it in words.
        chosen: hyperparameter to the value that was chosen; empty where there was no choice.
        fair: whether other seeds than these chose.
    """

    value: Any
    chosen: Mapping[str, Any]
    fair: bool


def values_of(means: Frame, field: str) -> list[Any]:
    """The values of a field, in the order in which they are drawn.

    Args:
        means: one row per member.
        field: a hyperparameter.

    Returns:
        Distinct values.
    """
    order = ORDER.get(field, ())
    values = means[field].dropna().unique().tolist()
    return sorted(values, key=lambda value: (order.index(value), 0) if value in order else (len(order), value))


def colour_index(means: Frame, field: str, value: Any) -> int:
    """Where in the palette a value's colour is."""
    order = ORDER.get(field, ())
    return order.index(value) if value in order else len(order) + values_of(means, field).index(value)


def in_panel(means: Frame, panel: Mapping[str, Any]) -> Frame:
    """The members that belong into a panel; those without a method belong to every reduction.

    Args:
        means: one row per member.
        panel: field to value.

    Returns:
        Rows of `means`.
    """
    for name, value in panel.items():
        fits = means[name] == value
        if name == "reduction":
            fits |= means["method"] == "none"
        means = means[fits]
    return means


def lines_of(data: FigureData, field: str, panel: Mapping[str, Any] | None = None) -> list[Line]:
    """The lines of a panel.

    Where members of a line differ in more than their seed, the setting of least J_K is drawn: chosen on seeds that are
    not drawn where there are at least four, else on those that are.

    Args:
        data: of the figure.
        field: that tells lines apart.
        panel: field to value.

    Returns:
        A line for each value that the panel has.
    """
    part = in_panel(data.means, panel or {})
    known = (field, *(panel or {}))
    found = []
    for value in values_of(part, field):
        own = part[part[field] == value]
        varying = data.varying(own, known)
        chosen, seeds, fair = ({}, None, True) if not varying else _choose(own, varying)
        for name, one in chosen.items():
            own = own[own[name].eq(one)]
        if seeds is not None:
            own = own[own["seed"].isin(seeds)]
        members = tuple((int(run), int(member)) for run, member in zip(own["run"], own["member"]))
        colour = colour_index(data.means, field, value)
        found.append(Line(phrase(field, value), members, colour, value, chosen, fair))
    return found


def _choose(own: Frame, varying: Sequence[str]) -> tuple[dict[str, Any], tuple[int, ...] | None, bool]:
    """The best setting, the seeds that report it (all if None), and whether others chose it."""
    own = own.dropna(subset=list(varying))
    groups = own.groupby(list(varying))
    shared = set.intersection(*(set(part["seed"]) for _, part in groups))
    choosing, reporting = split_seeds(shared)
    if choosing and choosing != reporting:
        found = select(own, varying, choosing, reporting)
        return found.setting, found.report_seeds, True
    means = groups["mean_error"].apply(lambda part: part.mean(skipna=False)).fillna(float("inf"))
    best = means.idxmin()
    return dict(zip(varying, best if isinstance(best, tuple) else (best,))), None, False
