"""What kinds of figures share: which panels there are, lines over tasks, the legend, the choices that lines rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from fastplast.drawing.captions import BANDS, count_words
from fastplast.drawing.columns import Axis, find_column, measured_at
from fastplast.drawing.panels import draw_over_tasks, legend_handle
from fastplast.drawing.settings import phrase
from fastplast.paper.lines import Line, in_panel, values_of
from fastplast.paper.results import FigureData

if TYPE_CHECKING:
    import numpy
    from matplotlib.axes import Axes

BANDS_BELOW = BANDS[0].lower() + BANDS[1:]  # after a colon
LABEL_ROOM, TICKS = 20, 6  # panels are narrower than those of ``fastplast plot``


@dataclass(frozen=True)
class Panels:
    """Panels that were drawn.

    Attributes:
        size: width and height of all of them, inches.
        legend: handles and labels.
        sentences: of the caption.
    """

    size: tuple[float, float]
    legend: list[tuple[Any, str]]
    sentences: list[str]


def axis_for(data: FigureData, column: str) -> tuple[str, Axis]:
    """The column and the axis of a metric.

    Args:
        data: that holds it.
        column: its name, with ``@start`` or ``@end`` where the time is not the usual one.

    Returns:
        Its column and axis.

    Raises:
        ValueError: if it was not measured; the text says how it would be.
    """
    name, _, when = column.partition("@")
    times = measured_at(data.table, name) if name in data.table else []
    if not times or (when and when not in times):
        flags = {"hessian": "--srank both", "test": "--test-examples"}
        hint = next((f" Train with {flag}." for start, flag in flags.items() if name.startswith(start)), "")
        got = f"only at task {' and '.join(times)}" if times else "no value of it"
        at = f" at task {when}" if when else ""
        raise ValueError(f"figure {data.figure.number} needs {name}{at}: the results have {got}.{hint}")
    return find_column(column, {name: times})


def panels_of(data: FigureData, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The panels for which there are members.

    Args:
        data: to draw.
        fields: that tell panels apart.

    Returns:
        Field to value for each.
    """
    means = data.means
    with_method = means[means["method"] != "none"] if "reduction" in fields else means
    known = with_method if len(with_method) else means
    found = [dict(zip(fields, values)) for values in product(*(values_of(known, field) for field in fields))]
    return [panel for panel in found if len(in_panel(known, panel))]


def draw_lines(
    axes: Axes, data: FigureData, column: str, axis: Axis, lines: Sequence[Line], log: bool = False
) -> list[tuple[numpy.ndarray, ...]]:
    """Draws one metric of several lines over tasks.

    Args:
        axes: where.
        data: to draw.
        column: the metric.
        axis: how it is drawn.
        lines: which members.
        log: whether the vertical axis will be logarithmic; means are geometric then.

    Returns:
        What ``limits`` takes.
    """
    drawn = draw_over_tasks(axes, data.table, (column, axis.when), lines, data.diverged, log, TICKS)
    axes.ticklabel_format(axis="y", scilimits=(-3, 5))
    return drawn


def title_of(panel: Mapping[str, Any]) -> str:
    """A panel's values in words."""
    return ", ".join(phrase(name, value) for name, value in panel.items())


def legend_of(data: FigureData, all_lines: Sequence[Sequence[Line]]) -> list[tuple[Any, str]]:
    """One entry for each value, whatever panels it is in, with its number of members.

    Args:
        data: that was drawn.
        all_lines: of each panel.

    Returns:
        Handles and labels.
    """
    by_label: dict[str, list[Line]] = {}
    for line in (line for lines in all_lines for line in lines):
        by_label.setdefault(line.label, []).append(line)
    entries = []
    for label, lines in sorted(by_label.items(), key=lambda item: item[1][0].colour):
        counts = [len(line.members) for line in lines]
        diverged = sum(member in data.diverged for line in lines for member in line.members)
        handle = legend_handle(lines[0].colour, max(counts), len(by_label))
        entries.append((handle, f"{label} ({count_words(counts, diverged)})"))
    return entries


def choices(panels: Sequence[Mapping[str, Any]], all_lines: Sequence[Sequence[Line]]) -> list[str]:
    """What was chosen, where there was a choice.

    Args:
        panels: in order.
        all_lines: the lines of each.

    Returns:
        A sentence, or none.
    """
    words, fair, names = [], True, {}
    for panel, lines in zip(panels, all_lines):
        names |= {name.replace("_", " "): None for line in lines for name in line.chosen}
        chosen = [f"{line.label} {' / '.join(map(_brief, line.chosen.values()))}" for line in lines if line.chosen]
        fair = fair and all(line.fair for line in lines)
        if chosen:
            panel_words = f"{title_of(panel)}: " if panel else ""
            words.append(panel_words + ", ".join(chosen))
    if not words:
        return []
    seeds = "on seeds that are not drawn" if fair else "on the seeds that are drawn, there being too few (optimistic)"
    return [f"Of least J_K, chosen {seeds}, are the settings ({' / '.join(names)}) {'; '.join(words)}."]


def _brief(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
