"""One number of each member against another, with a line for each activation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastplast.drawing.bands import colour_of, member_curves
from fastplast.drawing.columns import Axis
from fastplast.drawing.panels import label_of, set_limits
from fastplast.paper.lines import Line, colour_index, lines_of, values_of
from fastplast.paper.panels import BANDS_BELOW, LABEL_ROOM, Panels, axis_for, choices, draw_lines, legend_of
from fastplast.paper.registry import Explanations, StartEnd
from fastplast.paper.results import FigureData, Frame
from fastplast.stats import EXPLANATIONS, Association, associate
from fastplast.stats.explanations import column_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (2.05, 2.1)  # inches
_SIGNS = {1.0: "+", -1.0: "−", 0.0: "0"}


def draw_explanations(figure: Figure, data: FigureData, spec: Explanations) -> Panels:
    """Draws each explanation's mean over tasks against J_K, and below it over tasks.

    Args:
        figure: empty.
        data: to draw.
        spec: what to draw.

    Returns:
        What was drawn.

    Raises:
        ValueError: if an explanation was not measured.
    """
    names = spec.names
    columns = [column_of(EXPLANATIONS[name], data.table) for name in names]
    placed = [axis_for(data, f"{c}@{EXPLANATIONS[n].when}") for c, n in zip(columns, names)]
    axes = figure.subplots(2, len(names), squeeze=False)
    for row in axes[0][1:]:
        row.sharey(axes[0][0])
        row.tick_params(labelleft=False)
    lines = lines_of(data, spec.lines)
    for c, (name, (column, axis)) in enumerate(zip(names, placed)):
        explanation = EXPLANATIONS[name]
        above, below = axes[0][c], axes[1][c]
        scatter(above, data.means, name, spec.lines)
        unit = scale_ticks(above.xaxis, data.means[name].to_numpy(float))
        above.set_xlabel(f"{explanation.label}{unit},\nmean over tasks")
        drawn = draw_lines(below, data, column, axis, lines)
        below.set_xlabel("task (from 0)")
        unit = scale_ticks(below.yaxis, data.table[column].to_numpy(float))
        below.set_ylabel(f"{explanation.label}{unit}\nat task {axis.when}")
        if any(part.size for part, *_ in drawn):
            set_limits(below, drawn, log=False)
    axes[0][0].set_ylabel("$J_K$, mean error\nat task end")
    layers = sorted({column.rpartition("_")[2] for column in columns if "srank" in column})
    named = [_named(EXPLANATIONS[name].label, axis) for name, (_, axis) in zip(names, placed)]
    sentences = [
        "Above: a dot for each member and the least-squares line of each activation, dashed where the 95% t interval "
        "of its slope holds 0; signs of the slopes above the panel, in brackets likewise, a point where there is none.",
        f"Below: {BANDS_BELOW}",
        f"Vertical axes below: {'; '.join(named)}.",
        *([f"Stable ranks of layer {', '.join(layers)}."] if layers else []),
        *choices([{}], [lines]),
    ]
    return Panels((_PANEL[0] * len(names), 2 * _PANEL[1]), _legend(data, spec.lines, lines), sentences)


def _named(short: str, axis: Axis) -> str:
    """What the short name of an explanation stands for, with its unit."""
    long = re.sub(r" of \w+$", "", axis.label)  # the layer is said for all
    words = short if long == short else f"{short}, {long}"
    return f"{words} ({axis.unit})" if axis.unit else words


def scatter(axes: Axes, means: Frame, name: str, field: str) -> list[Association]:
    """Draws dots and a fitted line for every value of a field, and the signs of their slopes.

    Args:
        axes: where.
        means: one row per member.
        name: column of the horizontal axis; J_K is on the vertical one.
        field: that tells colours apart.

    Returns:
        What was found for each value.
    """
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    values = values_of(means, field)
    found = []
    for i, value in enumerate(values):
        own, colour = means[means[field] == value], colour_of(colour_index(means, field, value))
        x, y = own[name].to_numpy(float), own["mean_error"].to_numpy(float)
        fit = associate(x, y)
        alpha = max(0.25, min(0.8, 12 / max(len(x), 1)))
        axes.plot(x, y, "o", color=colour, ms=3, mew=0, alpha=alpha, zorder=2)
        word = "·"  # no slope
        if not np.isnan(fit.slope):
            ends = np.array([np.nanmin(x), np.nanmax(x)])
            style = "-" if fit.excludes_zero else "--"
            axes.plot(ends, fit.intercept + fit.slope * ends, style, color=colour, lw=1.2, zorder=3)
            word = _SIGNS[fit.sign] if fit.excludes_zero else f"({_SIGNS[fit.sign]})"
        place = (i + 1) / (len(values) + 1)
        axes.text(place, 1.02, word, color=colour, transform=axes.transAxes, ha="center", va="bottom", fontsize=9)
        found.append(fit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
    return found


def scale_ticks(axis: Any, values: Any) -> str:
    """Writes the ticks of an axis in units of a power of ten where numbers are small.

    Args:
        axis: of a panel.
        values: that are on it.

    Returns:
        What the axis' label must add.
    """
    import numpy as np
    from matplotlib.ticker import FuncFormatter

    most = np.max(np.abs(values), initial=0, where=np.isfinite(values))
    if not 0 < most < 1e-2:
        return ""
    power = int(np.floor(np.log10(most)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:.3g}"))
    return f" / $10^{{{power}}}$"


def draw_start_end(figure: Figure, data: FigureData, spec: StartEnd) -> Panels:
    """Draws a metric at task end against the same at task start, and both over tasks.

    Args:
        figure: empty.
        data: to draw.
        spec: what to draw.

    Returns:
        What was drawn.

    Raises:
        ValueError: if it was not measured at both.
    """
    import numpy as np

    placed = [axis_for(data, f"{spec.column}@{when}") for when in ("start", "end")]
    left, *right = figure.subplots(1, 3, squeeze=False)[0]
    lines = lines_of(data, spec.lines)
    start, end = (member_curves(data.table, spec.column, when, data.diverged) for when in ("start", "end"))
    tasks = [task for task in start.columns if task in end.columns]
    top = 0.0
    for line in lines:
        members = list(line.members)
        x, y = (part.reindex(members)[tasks].to_numpy(float).reshape(-1) for part in (start, end))
        alpha = max(0.12, min(0.7, 40 / max(len(x), 1)))
        left.plot(
            x, y, "o", color=colour_of(line.colour), ms=2.5, mew=0, alpha=alpha, rasterized=len(x) > 300, zorder=2
        )
        top = max([top, *x[np.isfinite(x)], *y[np.isfinite(y)]])
    left.plot([0, top], [0, top], color="0.5", lw=0.8, zorder=1)
    label = placed[0][1].label
    left.set(xlabel=f"{label} at task start", ylabel=f"{label}\nat task end")
    drawn = [draw_lines(axes, data, column, axis, lines) for axes, (column, axis) in zip(right, placed)]
    both = [part for one in drawn for part in one]
    for axes, (_, axis) in zip(right, placed):
        axes.set_ylabel(label_of(axis, LABEL_ROOM))
        set_limits(axes, both, log=False)
    sentences = [
        "Left: a dot for each member and task; grey: equal.",
        f"Right: {BANDS_BELOW}",
    ]
    return Panels((3 * 2.9, 2.6), legend_of(data, [lines]), [*sentences, *choices([{}], [lines])])


def _legend(data: FigureData, field: str, lines: Sequence[Line]) -> list[tuple[Any, str]]:
    """Members of the upper row, which may be more than those of the lower."""
    entries = []
    for (handle, text), line in zip(legend_of(data, [lines]), sorted(lines, key=lambda line: line.colour)):
        n = int((data.means[field] == line.value).sum())
        more = n != len(line.members)
        entries.append((handle, f"{line.label} (n = {n} above, {len(line.members)} below)" if more else text))
    return entries
