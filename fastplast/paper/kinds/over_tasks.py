"""Metrics over tasks: a row of panels for each metric, a column for each value of what tells panels apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastplast.drawing.captions import BANDS, CROSSES
from fastplast.drawing.panels import label_of, set_limits
from fastplast.paper.lines import Line, lines_of
from fastplast.paper.panels import LABEL_ROOM, Panels, axis_for, choices, draw_lines, legend_of, panels_of, title_of
from fastplast.paper.registry import Curves
from fastplast.paper.results import FigureData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTHS = {1: 4.8, 2: 3.6, 3: 2.9, 4: 2.5}  # inches of a panel, by how many stand side by side


def draw_curves(figure: Figure, data: FigureData, spec: Curves) -> Panels:
    """Draws metrics over tasks.

    Args:
        figure: empty.
        data: to draw.
        spec: what to draw.

    Returns:
        What was drawn.

    Raises:
        ValueError: if a metric was not measured.
    """
    metrics = [axis_for(data, column) for column in spec.columns]
    panels = panels_of(data, spec.panels)
    rows, width, wide = _make_axes(figure, len(metrics), len(panels), bool(spec.panels), "benchmark" not in spec.panels)
    all_lines = [lines_of(data, spec.lines, panel) for panel in panels]
    drawn: dict[Any, list] = {}  # by what shares a vertical axis
    keys: list[tuple[Any, Any]] = []
    for r, (column, axis) in enumerate(metrics):
        for c, (panel, lines) in enumerate(zip(panels, all_lines)):
            axes = rows[r][c] if spec.panels else rows[r // wide][r % wide]
            key = (column, panel["benchmark"]) if "benchmark" in panel else column
            drawn.setdefault(key, []).extend(draw_lines(axes, data, column, axis, lines, spec.log))
            keys.append((axes, key))
            if spec.panels and r == 0:
                axes.set_title(title_of(panel), fontsize=8)
            if c == 0:
                axes.set_ylabel(label_of(axis, LABEL_ROOM))
            if spec.panels and r < len(metrics) - 1:
                axes.set_xlabel("")
    for axes, key in keys:
        if any(part.size for part, *_ in drawn[key]):
            set_limits(axes, drawn[key], spec.log and any((part > 0).any() for part, *_ in drawn[key]))
    height = 2.4 * (len(metrics) if spec.panels else len(rows))
    words = BANDS.replace("mean over members", "geometric mean over members") if spec.log else BANDS
    sentences = [words, *_crosses(data, all_lines), *choices(panels, all_lines)]
    return Panels((width, height), legend_of(data, all_lines), sentences)


def _make_axes(figure: Figure, metrics: int, panels: int, has_panels: bool, share: bool) -> tuple[Any, float, int]:
    """Axes as `[rows][columns]`, the width of all in inches, and the columns.

    Metrics stand side by side where nothing tells panels apart; else each has a row, of one vertical axis if `share`.
    """
    wide = panels if has_panels else 2 if metrics == 4 else min(metrics, 3)
    tall = metrics if has_panels else -(-metrics // wide)
    axes = figure.subplots(tall, wide, squeeze=False, sharey="row" if has_panels and share else False)
    return axes, wide * _WIDTHS.get(wide, 2.3), wide


def _crosses(data: FigureData, all_lines: Sequence[Sequence[Line]]) -> list[str]:
    members = {member for lines in all_lines for line in lines for member in line.members}
    return [CROSSES] if members & data.diverged.keys() else []
