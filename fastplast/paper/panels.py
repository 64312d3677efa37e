"""What is in one panel: a metric over tasks, against another metric task by task, or over the updates of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastplast.drawing.bands import colour_of, draw_members, limits, line_style_of, member_curves
from fastplast.drawing.choice import Line
from fastplast.drawing.columns import Axis, find_column, measured_at, range_of
from fastplast.drawing.panels import NARROW, draw_over_tasks, label_of, set_limits
from fastplast.paper.results import FigureData
from fastplast.stats import least_squares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TASKS_WITHIN = 10  # of which curves within tasks are drawn
_SIGNS = {True: "+", False: "−"}


def axis_for(data: FigureData, name: str) -> tuple[str, Axis]:
    """The column and the axis of a metric.

    Args:
        data: that holds it.
        name: of a figure's table, with ``@start`` or ``@end`` where the time is not the usual one.

    Returns:
        Its column and axis.

    Raises:
        ValueError: if it was not measured; the text says how it would be.
    """
    metric = data.metric(name)
    column, _, when = metric.partition("@")
    times = measured_at(data.table, column) if column in data.table else []
    if not times or (when and when not in times):
        flags = {"hessian": "--srank both", "test": "--test-examples"}
        hint = next((f" Train with {flag}." for start, flag in flags.items() if column.startswith(start)), "")
        got = f"only at task {' and '.join(times)}" if times else "no value of it"
        at = f" at task {when}" if when else ""
        raise ValueError(f"{data.figure.title} needs {column}{at}: the results have {got}.{hint}")
    return find_column(metric, {column: times})


def shape_of(colour: int) -> str:
    """The marker of points, which tells lines of one colour apart."""
    return "o^sD"[colour // 7 % 4]


def over_tasks(axes: Axes, data: FigureData, name: str, lines: Sequence[Line], log: bool) -> None:
    """Draws a metric over tasks: mean, band and members of each line.

    Args:
        axes: where.
        data: to draw.
        name: of the metric.
        lines: of the panel.
        log: whether the vertical axis is logarithmic; means are geometric then.
    """
    column, axis = axis_for(data, name)
    table = data.table[data.table["task"] <= _last_task(data, lines)]
    drawn = draw_over_tasks(axes, table, (column, axis.when), lines, data.diverged, log, NARROW.ticks)
    axes.set_ylabel(label_of(axis, NARROW.letters))
    axes.set_xlabel("task (from 0)")
    if any(part.size for part, *_ in drawn):
        is_log = log and any((part > 0).any() for part, *_ in drawn)
        if not is_log:
            axes.ticklabel_format(axis="y", scilimits=(-3, 5))
        set_limits(axes, drawn, is_log, range_of(column, data.table, data.table[column].to_numpy(float)))


def _last_task(data: FigureData, lines: Sequence[Line]) -> int:
    """The task that at least half of the lines get to: a panel is not drawn empty for one that goes on."""
    tasks = dict(zip(zip(data.means["run"], data.means["member"]), data.means["tasks"]))
    last = sorted((max(int(tasks[member]) for member in line.members) for line in lines), reverse=True)
    return last[(len(last) - 1) // 2] - 1


def against(axes: Axes, data: FigureData, name: str, lines: Sequence[Line], x: str) -> list[str]:
    """Draws a point for each member and task and a regression line for each line.

    Args:
        axes: where.
        data: to draw.
        name: of the metric on the vertical axis.
        lines: of the panel.
        x: the metric on the horizontal axis.

    Returns:
        Pearson's correlation of each line in words.
    """
    import numpy as np

    (across, x_axis), (column, axis) = axis_for(data, x), axis_for(data, name)
    values = {
        key: member_curves(data.table, *key, data.diverged) for key in ((across, x_axis.when), (column, axis.when))
    }
    shared = [t for t in values[across, x_axis.when].columns if t in values[column, axis.when].columns]
    ends, texts = [range_of(one, data.table, data.table[one].to_numpy(float)) for one in (across, column)], []
    for i, line in enumerate(lines):
        px, py = (one.reindex(list(line.members))[shared].to_numpy(float) for one in values.values())
        colour, count = colour_of(line.colour), np.isfinite(px).sum()
        shape, alpha = shape_of(line.colour), max(0.12, min(0.7, 40 / max(count, 1)))
        axes.plot(
            px.ravel(), py.ravel(), shape, color=colour, ms=2.5, mew=0, alpha=alpha, rasterized=count > 300, zorder=2
        )
        fit, mark = least_squares(px, py), "·"
        if fit is not None:
            along = np.linspace(fit.least, fit.most, 200)
            fitted = fit.intercept + fit.slope * along
            sure = fit.low > 0 or fit.high < 0
            fitted[(fitted < ends[1][0]) | (fitted > ends[1][1])] = np.nan
            axes.plot(along, fitted, "-" if sure else "--", color=colour, lw=1.4, zorder=3)
            mark = _SIGNS[fit.slope > 0] if sure else f"({_SIGNS[fit.slope > 0]})" if fit.slope else "0"
            texts.append(f"{line.label} {fit.r:.2f} [{fit.low:.2f}, {fit.high:.2f}]")
        place = (i + 1) / (len(lines) + 1)
        axes.text(place, 1.02, mark, color=colour, transform=axes.transAxes, ha="center", va="bottom", fontsize=9)
    if across == column:
        axes.axline((0, 0), slope=1, color="0.6", lw=0.8, zorder=1)
    axes.ticklabel_format(axis="both", scilimits=(-3, 5))
    axes.set_xlabel(label_of(x_axis, NARROW.letters))
    axes.set_ylabel(label_of(axis, NARROW.letters))
    for shown, range_, set_ends in zip(values.values(), ends, (axes.set_xlim, axes.set_ylim)):
        members = [member for line in lines for member in line.members]
        known = shown.reindex(members)[shared].to_numpy(float)
        if np.isfinite(known).any():
            set_ends(*limits([(known[np.isfinite(known)], np.array([]), np.array([]))], False, range_))
    return texts


def within_tasks(axes: Axes, data: FigureData, lines: Sequence[Line]) -> None:
    """Draws the online error of each epoch over the updates of the first tasks.

    Args:
        axes: where.
        data: with curves within tasks.
        lines: of the panel.
    """
    import numpy as np

    rows = data.epochs[data.epochs["task"] < TASKS_WITHIN]
    ended = data.table[data.table["when"] == "end"]
    per_task = float((ended["updates"] / (ended["task"] + 1)).max())
    drawn, epochs, ends = (
        [],
        int(rows["epoch"].max()) + 1,
        range_of("online_error", data.table, data.table["online_error"].to_numpy(float)),
    )
    values = rows.pivot(index=["run", "member"], columns=["task", "epoch"], values="online_error")
    x = np.array([(task + (epoch + 1) / epochs) * per_task for task, epoch in values.columns])
    for line in lines:
        own, colour, style = values.reindex(list(line.members)), colour_of(line.colour), line_style_of(line.colour)
        drawn.append(draw_members(axes, x, own.to_numpy(float), colour, style, len(lines), ends=ends))
    for task in range(1, int(rows["task"].max()) + 1):
        axes.axvline(task * per_task, color="0.6", lw=0.6, ls=":", zorder=1)
    axes.set_xlabel("update (dotted: a new task)")
    axes.set_ylabel("online error of an epoch\n(misclassified fraction)")
    set_limits(axes, drawn, False, ends)
