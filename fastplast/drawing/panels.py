"""A panel of a metric over tasks, for runs and for the paper: lines with bands, marks where members diverged, axes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastplast.drawing.bands import PARTS, band_style, colour_of, draw_members, limits, line_style_of, member_curves
from fastplast.drawing.columns import Axis, range_of
from fastplast.drawing.settings import Setting

if TYPE_CHECKING:
    import numpy
    import pandas
    from matplotlib.axes import Axes


# Inches of a panel, by how many stand side by side.
WIDTHS = {1: 4.8, 2: 3.6, 3: 2.9, 4: 2.5}
LEAST_WIDTH = 2.35  # of more than four


class Room(NamedTuple):
    """What fits a panel.

    Attributes:
        ticks: as many at most on the horizontal axis.
        letters: of a metric from which on it has a line of its own in the label of the vertical axis.
    """

    ticks: int
    letters: int


SPACIOUS, NARROW = Room(10, 24), Room(6, 20)  # the latter of panels side by side, by a field


def draw_over_tasks(
    axes: Axes,
    table: pandas.DataFrame,
    key: tuple[str, str],
    settings: Sequence[Setting],
    diverged: Mapping[tuple[int, int], int],
    geometric: bool = False,
    ticks: int = SPACIOUS.ticks,
    parts: Collection[str] = PARTS,
) -> list[tuple[numpy.ndarray, ...]]:
    """Draws a metric of several settings over tasks, with all but the label and the limits of the vertical axis.

    Args:
        axes: where.
        table: metrics, with a column ``run``.
        key: the metric and ``"start"`` or ``"end"``.
        settings: a line each.
        diverged: (run, member) to the task in which it diverged.
        geometric: whether means and bands are those of logarithms.
        ticks: as many at most on the horizontal axis.
        parts: what is drawn beside means, as of ``draw_members``.

    Returns:
        What ``draw_members`` returned of each setting, for ``limits``.
    """
    values = member_curves(table, *key, diverged)
    tasks = values.columns.to_numpy(float)
    drawn, ends = [], range_of(key[0], table, table[key[0]].to_numpy(float))
    for i, setting in enumerate(settings):
        # Of one task, means and bars would lie over each other.
        shift = 0.5 * (i - (len(settings) - 1) / 2) / len(settings) if len(tasks) == 1 else 0.0
        own = values.reindex(list(setting.members)).to_numpy()
        colour, style = colour_of(setting.colour), setting.dash or line_style_of(setting.colour)
        drawn.append(draw_members(axes, tasks + shift, own, colour, style, len(settings), geometric, ends, parts))
        _mark_divergences(axes, i, colour, [diverged[member] for member in setting.members if member in diverged])
    if not any(lines.size for lines, *_ in drawn):
        axes.text(0.5, 0.5, "no member left", transform=axes.transAxes, ha="center")
    shown = tasks[values.reindex([m for s in settings for m in s.members]).notna().any().to_numpy()]
    first, last = (shown.min(), shown.max()) if len(shown) else (table["task"].min(), table["task"].max())
    _set_task_axis(axes, int(first), int(last), ticks)
    return drawn


def set_limits(
    axes: Axes, drawn: list[tuple[numpy.ndarray, ...]], log: bool, ends: tuple[float, float] = (-math.inf, math.inf)
) -> None:
    """Scales the vertical axis.

    Args:
        axes: of the panel.
        drawn: what ``draw_members`` returned of each setting; at least one finite value in all.
        log: whether the axis is logarithmic; then at least one of a member is positive.
        ends: the smallest and the greatest value that there can be.
    """
    if log:
        axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(*limits(drawn, log, ends))


def label_of(axis: Axis, room: int = SPACIOUS.letters) -> str:
    """The label of a vertical axis: what, when and in which unit.

    Args:
        axis: of the metric.
        room: letters from which on the metric has a line of its own: together with the time it would leave the panel.

    Returns:
        One to three lines.
    """
    space = " " if len(axis.label) < room else "\n"
    return f"{axis.label}{space}at task {axis.when}" + (f"\n({axis.unit})" if axis.unit else "")


def legend_handle(colour: int, members: int, settings: int, line_style: str | None = None) -> Any:
    """What stands for a line in the legend, with its band if it has enough members for one.

    Args:
        colour: index into the palette.
        members: of the line.
        settings: lines of a panel.
        line_style: that of the colour's index if None.

    Returns:
        A handle.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    line = Line2D([], [], color=colour_of(colour), ls=line_style or line_style_of(colour))
    return (Patch(**band_style(colour_of(colour), members, settings)), line) if members > 1 else line


def dot_handle(colour: int) -> Any:
    """What stands for the means of one task in the legend.

    Args:
        colour: index into the palette.

    Returns:
        A handle.
    """
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour_of(colour), ls="", marker="o", ms=5)


def _mark_divergences(axes: Axes, row: int, colour: str, tasks: Sequence[int]) -> None:
    """Crosses along the upper rim, those of each setting below those of the one before."""
    tasks, height = sorted(set(tasks)), 0.97 - 0.035 * (row % 8)
    axes.plot(tasks, [height] * len(tasks), "x", color=colour, transform=axes.get_xaxis_transform(), ms=4)


def _set_task_axis(axes: Axes, first: int, last: int, ticks: int) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator

    axes.set_xlabel("task (number, from 0)")
    pad = 0.02 * (last - first) or 0.6
    axes.set_xlim(first - pad, last + pad)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=ticks) if last > first else FixedLocator([first]))
