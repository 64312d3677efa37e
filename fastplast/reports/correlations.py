"""How each explanation of plasticity loss goes with the error at the end of the same task, activation by activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastplast.config import ACTIVATIONS
from fastplast.drawing.columns import axis_of
from fastplast.reports.reading import ReportData
from fastplast.stats import least_squares

EXPLANATIONS = (
    "hessian_srank",
    "hessian_sharpness",
    "hessian_negative_mass",
    "hessian_overlap",
    "weight_norm_l1",
    "init_distance_l1",
    "displacement_l1",
    "update_l1_mean",
    "update_l2_mean",
    "activation_entropy",
    "dormant_fraction",
    "dead_fraction",
)
_OF_LAYERS = ("weight_srank_", "feature_srank_")


def correlations(data: ReportData) -> list[dict[str, Any]]:
    """Every explanation with every activation.

    Args:
        data: of the runs.

    Returns:
        One entry each: ``name`` and ``when`` of the explanation, ``activation``, ``colour`` and the fields of ``Line``;
        empty if no error at task end was measured.
    """
    error = data.curves.get(("error", "end"))
    if error is None:
        return []
    found = []
    for name, when in explanations(data):
        for activation, rows in activations(data).items():
            line = least_squares(data.curves[name, when][rows], error[rows])
            if line is not None:
                colour = ACTIVATIONS.index(activation) if activation in ACTIVATIONS else 0
                entry = {"name": name, "when": when, "activation": activation, "colour": colour}
                found.append(entry | vars(line))
    return found


def explanations(data: ReportData) -> list[tuple[str, str]]:
    """The metrics that are explanations, each at the time it is usually read at."""
    names = list(dict.fromkeys(name for name, _ in data.curves))
    chosen = [*EXPLANATIONS, *(name for name in names if name.startswith(_OF_LAYERS))]
    keys = [(name, when) for name in chosen for when in (axis_of(name).when, "end", "start")]
    firsts: dict[str, str] = {}
    for name, when in keys:
        if (name, when) in data.curves:
            firsts.setdefault(name, when)
    return list(firsts.items())


def activations(data: ReportData) -> dict[str, list[int]]:
    """The rows of every activation, in the order of the palette; all of them where none is known."""
    if "activation" not in data.members:
        return {"all": list(range(len(data.members)))}
    column = data.members["activation"].fillna("other").astype(str)
    known = [name for name in ACTIVATIONS if (column == name).any()]
    others = sorted(set(column) - set(known))
    return {name: np.flatnonzero(column == name).tolist() for name in (*known, *others)}
