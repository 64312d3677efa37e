"""Metrics over tasks: a row of panels for each metric, a column for each value of what tells panels apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from fastplast.drawing.bands import band_look, colour_of, draw_members, limits, line_style_of, member_curves
from fastplast.drawing.columns import Axis, place
from fastplast.drawing.settings import phrase
from fastplast.paper.lines import Line, in_panel, lines_of, values_of
from fastplast.paper.registry import Curves
from fastplast.paper.results import Results, measured_at

if TYPE_CHECKING:
    import numpy
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND_WORDS = "Line: mean over members; band: its 95% t interval; thin lines: members."
CROSS_WORDS = "×: a member diverged in this task, and is left out from it on."
_WIDTHS = {1: 4.8, 2: 3.6, 3: 2.9, 4: 2.5}  # inches of a panel, by how many stand side by side


@dataclass(frozen=True)
class Drawn:
    """Panels that were drawn.

    Attributes:
        size: width and height of all of them, inches.
        legend: handles and labels.
        sentences: of the caption.
    """

    size: tuple[float, float]
    legend: list[tuple[Any, str]]
    sentences: list[str]


def draw_curves(figure: Figure, results: Results, spec: Curves) -> Drawn:
    """Draws metrics over tasks.

    Args:
        figure: empty.
        results: to draw.
        spec: what to draw.

    Returns:
        What was drawn.

    Raises:
        ValueError: if a metric was not measured.
    """
    metrics = [axis_for(results, column) for column in spec.columns]
    panels = panels_of(results, spec.panels)
    grid = arranged(figure, len(metrics), len(panels), bool(spec.panels), "benchmark" not in spec.panels)
    rows, width, wide = grid
    all_lines = [lines_of(results, spec.lines, panel) for panel in panels]
    seen: dict[Any, list] = {}  # what shares a vertical axis
    drawn: list[tuple[Any, Any]] = []
    for r, (column, axis) in enumerate(metrics):
        for c, (panel, lines) in enumerate(zip(panels, all_lines)):
            axes = rows[r][c] if spec.panels else rows[r // wide][r % wide]
            own = draw_over_tasks(axes, results, column, axis, lines, spec.log)
            key = (column, panel["benchmark"]) if "benchmark" in panel else column
            seen.setdefault(key, []).extend(own)
            drawn.append((axes, key))
            if spec.panels and r == 0:
                axes.set_title(title_of(panel), fontsize=8)
            if c == 0:
                axes.set_ylabel(label_of(axis))
            if spec.panels and r < len(metrics) - 1:
                axes.set_xlabel("")
    for axes, key in drawn:
        positive = any((part > 0).any() for part, *_ in seen[key])
        if spec.log and positive:
            axes.set_yscale("log", nonpositive="clip")
        if positive or any(part.size for part, *_ in seen[key]):
            axes.set_ylim(*limits(seen[key], spec.log and positive))
    height = 2.4 * (len(metrics) if spec.panels else len(rows))
    words = BAND_WORDS.replace("mean over members", "geometric mean over members") if spec.log else BAND_WORDS
    sentences = [words, *_crosses(results, all_lines), *choices(panels, all_lines)]
    return Drawn((width, height), legend_of(results, all_lines), sentences)


def arranged(figure: Figure, metrics: int, panels: int, has_panels: bool, share: bool) -> tuple[Any, float, int]:
    """Makes the axes.

    Args:
        figure: empty.
        metrics: how many.
        panels: values of what tells panels apart.
        has_panels: whether anything does; if not, metrics stand side by side.
        share: whether panels of a metric have one vertical axis.

    Returns:
        Axes as `[rows][columns]`, the width of all in inches, and the columns.
    """
    wide = panels if has_panels else 2 if metrics == 4 else min(metrics, 3)
    tall = metrics if has_panels else -(-metrics // wide)
    axes = figure.subplots(tall, wide, squeeze=False, sharey="row" if has_panels and share else False)
    return axes, wide * _WIDTHS.get(wide, 2.3), wide


def axis_for(results: Results, column: str) -> tuple[str, Axis]:
    """The column and the axis of a metric.

    Args:
        results: that hold it.
        column: its name, with ``@start`` or ``@end`` where the time is not the usual one.

    Returns:
        Its column and axis.

    Raises:
        ValueError: if it was not measured; the text says how it would be.
    """
    name, _, when = column.partition("@")
    times = measured_at(results.table, name)
    if not times or (when and when not in times):
        flags = {"hessian": "--srank both", "test": "--test-examples"}
        hint = next((f" Train with {flag}." for start, flag in flags.items() if name.startswith(start)), "")
        got = f"only at task {' and '.join(times)}" if times else "no value of it"
        at = f" at task {when}" if when else ""
        raise ValueError(f"figure {results.figure.number} needs {name}{at}: the results have {got}.{hint}")
    return place(column, {name: times})


def panels_of(results: Results, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The panels for which there are members.

    Args:
        results: to draw.
        fields: that tell panels apart.

    Returns:
        Field to value for each.
    """
    means = results.means
    with_method = means[means["method"] != "none"] if "reduction" in fields else means
    known = with_method if len(with_method) else means
    found = [dict(zip(fields, values)) for values in product(*(values_of(known, field) for field in fields))]
    return [panel for panel in found if len(in_panel(known, panel))]


def draw_over_tasks(
    axes: Axes, results: Results, column: str, axis: Axis, lines: Sequence[Line], log: bool = False
) -> list[tuple[numpy.ndarray, ...]]:
    """Draws one metric of several lines.

    Args:
        axes: where.
        results: to draw.
        column: the metric.
        axis: how it is drawn.
        lines: which members.
        log: whether the vertical axis will be logarithmic; means are geometric then.

    Returns:
        What ``limits`` takes.
    """
    from matplotlib.ticker import MaxNLocator

    values = member_curves(results.table, column, axis.when, results.diverged)
    tasks, seen = values.columns.to_numpy(float), []
    for i, line in enumerate(lines):
        own = values.reindex(list(line.members)).to_numpy()
        colour, style = colour_of(line.colour), line_style_of(line.colour)
        seen.append(draw_members(axes, tasks, own, colour, style, len(lines), log))
        stopped = sorted({results.diverged[m] for m in line.members if m in results.diverged})
        rim = axes.get_xaxis_transform()
        axes.plot(stopped, [0.97 - 0.035 * (i % 8)] * len(stopped), "x", color=colour, transform=rim, ms=4)
    if not any(lines.size for lines, *_ in seen):
        axes.text(0.5, 0.5, "no member left", transform=axes.transAxes, ha="center")
    axes.set_xlabel("task (number, from 0)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    first, last = results.table["task"].min(), results.table["task"].max()
    pad = 0.02 * (last - first) or 0.6
    axes.set_xlim(first - pad, last + pad)
    axes.ticklabel_format(axis="y", scilimits=(-3, 5))
    return seen


def label_of(axis: Axis) -> str:
    """The label of a vertical axis: what, when and in which unit."""
    space = " " if len(axis.label) < 20 else "\n"  # a longer line would leave the panel
    return f"{axis.label}{space}at task {axis.when}" + (f"\n({axis.unit})" if axis.unit else "")


def title_of(panel: Mapping[str, Any]) -> str:
    """A panel's values in words."""
    return ", ".join(phrase(name, value) for name, value in panel.items())


def legend_of(results: Results, all_lines: Sequence[Sequence[Line]], band: bool = True) -> list[tuple[Any, str]]:
    """One entry for each value, whatever panels it is in, with its number of members.

    Args:
        results: that were drawn.
        all_lines: of each panel.
        band: whether lines have bands, or are dots.

    Returns:
        Handles and labels.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    by_label: dict[str, list[Line]] = {}
    for line in (line for lines in all_lines for line in lines):
        by_label.setdefault(line.label, []).append(line)
    entries = []
    for label, lines in sorted(by_label.items(), key=lambda item: item[1][0].colour):
        counts = sorted({len(line.members) for line in lines})
        frozen = sum(member in results.diverged for line in lines for member in line.members)
        n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        colour = colour_of(lines[0].colour)
        handle: Any = Line2D([], [], color=colour, ls=line_style_of(lines[0].colour))
        if not band:
            handle = Line2D([], [], color=colour, ls="", marker="o", ms=4)
        elif counts[-1] > 1:
            handle = (Patch(**band_look(colour, counts[-1], len(by_label))), handle)
        entries.append((handle, f"{label} ({n}{f', {frozen} diverged ×' if frozen else ''})"))
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
        chosen = [f"{line.label} {' / '.join(map(_short, line.chosen.values()))}" for line in lines if line.chosen]
        fair = fair and all(line.fair for line in lines)
        if chosen:
            place = f"{title_of(panel)}: " if panel else ""
            words.append(place + ", ".join(chosen))
    if not words:
        return []
    seeds = "on seeds that are not drawn" if fair else "on the seeds that are drawn, there being too few (optimistic)"
    return [f"Of least J_K, chosen {seeds}, are the settings ({' / '.join(names)}) {'; '.join(words)}."]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _crosses(results: Results, all_lines: Sequence[Sequence[Line]]) -> list[str]:
    members = {member for lines in all_lines for line in lines for member in line.members}
    return [CROSS_WORDS] if members & results.diverged.keys() else []
