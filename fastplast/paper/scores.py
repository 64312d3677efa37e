"""Correlations of every explanation with the mean error, with their intervals, and the consistency scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastplast.drawing.bands import colour_of
from fastplast.paper.grid import Drawn
from fastplast.paper.lines import colour_index, values_of
from fastplast.paper.registry import Scores
from fastplast.paper.results import FigureData
from fastplast.stats import (
    EXPLANATIONS,
    Interval,
    associations,
    consistency,
    task_consistency,
    task_correlations,
    within_range,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CAPTION = (
    "Left: rank correlation over the tasks of a member, mean over members; middle: of members' means over tasks "
    "with their mean error; bars: 95% intervals. Right: mean over activations of +1 for the claimed sign and -1 for "
    "the other, black of the left correlations, grey of the middle ones."
)
_MORE = (
    "Intervals: left Student's t over members within [-1, 1], middle Fisher's with Bonett and Wright's error, "
    "right bootstrap over members. Missing where one of the two does not vary. Beside the scores are the "
    "activations that agree. Scores are of signs alone, and of these activations only."
)


def draw_scores(figure: Figure, data: FigureData, spec: Scores) -> Drawn:
    """Draws dots and intervals, over tasks and over members: one row for each explanation.

    Args:
        figure: empty.
        data: to draw.
        spec: what groups members.

    Returns:
        What was drawn.

    Raises:
        ValueError: if no explanation was measured.
    """
    import numpy as np
    from matplotlib.lines import Line2D

    means, field = data.means, spec.lines
    names = [name for name in EXPLANATIONS if means[name].notna().any()]
    if "hessian_srank" not in names:
        raise ValueError(f"{data.figure.title} needs hessian_srank: the results have no value of it. "
                         "Train with --srank both.")  # fmt: skip
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=(2, 2, 1))
    over_tasks = task_correlations(data.table, by=field).set_index(["explanation", field])
    found = associations(means, names, by=field).set_index(["explanation", field])
    groups = values_of(means, field)
    for row, name in enumerate(names):
        for i, group in enumerate(groups):
            within, one = over_tasks.loc[(name, group)], found.loc[(name, group)]
            y = row + 0.6 * ((i + 0.5) / len(groups) - 0.5)
            colour = colour_of(colour_index(means, field, group))
            t = within_range(Interval(*(np.array(within[k]) for k in ("rho", "low", "high", "n"))), -1, 1)
            _dot(left, within["rho"], float(t.low), float(t.high), y, colour)
            _dot(middle, one["spearman"], one["spearman_low"], one["spearman_high"], y, colour)
        claim = EXPLANATIONS[name].direction
        for axes in (left, middle):
            axes.plot(claim * 1.06, row, ">" if claim > 0 else "<", color="0.45", ms=5, mew=0, clip_on=False)
        scores = (
            (task_consistency(data.table, EXPLANATIONS[name], by=field), -0.17, "0.15"),
            (consistency(means, name, claim, by=field), 0.17, "0.6"),
        )
        for score, shift, colour in scores:
            _dot(right, score.score, score.low, score.high, row + shift, colour)
            right.text(1.12, row + shift, f"{score.agreeing}/{score.groups}", va="center", fontsize=6.5, color=colour)
    _label_axes(left, middle, right, names)
    counts = found.loc[names[0], "n"]
    legend: list[tuple[Any, str]] = [
        (Line2D([], [], color=colour_of(colour_index(means, field, group)), marker="o", ms=4, lw=1),
         f"{group} (n = {counts[group]})") for group in groups
    ]  # fmt: skip
    legend.append((Line2D([], [], color="0.45", ls="", marker="<", ms=5), "claimed sign"))
    varying = data.varying(means, (field,))
    steps = ", ".join(f"{step:g}" for step in sorted(set(means["learning_rate"])))
    caption = [
        f"Step size {steps}.",
        *([f"Members differ in seed and {', '.join(name.replace('_', ' ') for name in varying)}."] if varying else []),
        _CAPTION,
    ]
    return Drawn((9.6, 0.42 * len(names) + 0.5), legend, caption, [_MORE])


def _label_axes(left: Axes, middle: Axes, right: Axes, names: Sequence[str]) -> None:
    for axes in (left, middle, right):
        axes.grid(axis="y", visible=False)
        axes.axvline(0, color="0.5", lw=0.8, zorder=1)
        axes.set_xlim(-1.12, 1.12)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    left.set_yticks(range(len(names)), [EXPLANATIONS[name].label for name in names])
    left.set_ylim(len(names) - 0.4, -0.6)
    left.set_xlabel("Spearman's correlation with the error\nat task end, over tasks")
    middle.set_xlabel("Spearman's correlation with mean error,\nover members")
    right.set_xlabel("consistency over activations")


def _dot(axes: Axes, value: float, low: float, high: float, y: float, colour: str) -> None:
    if low == low:
        axes.plot([low, high], [y, y], color=colour, lw=1.1, solid_capstyle="butt", zorder=2)
    axes.plot(value, y, "o", color=colour, ms=4, mec="white", mew=0.4, zorder=3)
