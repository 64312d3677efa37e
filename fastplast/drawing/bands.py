"""The one way to draw members: thin lines, their mean, and the band of its interval."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from fastplast.stats import Interval, mean_interval, within_range

if TYPE_CHECKING:
    import numpy
    import pandas
    from matplotlib.axes import Axes

PARTS = ("members", "band")  # what is drawn beside a mean
BAND = 0.22  # opacity
_LEAST = 3  # members from which on several bands are drawn: of two they are nine times as wide as members are apart
_FEW = 4  # members up to which several bands are drawn by their edges
_EDGE = {"alpha": 0.7, "lw": 0.7, "ls": ":"}
# Lines that lie on each other are seen by the gaps of those drawn later.
LINE_STYLES = ("-", "--", "-.", ":")
_RASTER = 300  # thin lines from which on they are pixels in PDF and SVG, which would take megabytes


def member_curves(
    table: pandas.DataFrame, column: str, when: str, diverged: Mapping[tuple[int, int], int]
) -> pandas.DataFrame:
    """A metric of every member over tasks.

    Args:
        table: metrics, with a column ``run``.
        column: the metric.
        when: ``"start"`` or ``"end"``.
        diverged: (run, member) to the task from which on the member is left out.

    Returns:
        (run, member) x task; NaN where there is no finite value. Tasks at which nothing was measured are left out,
        unless nothing ever was.
    """
    import numpy as np

    values = table[table["when"] == when].pivot(index=["run", "member"], columns="task", values=column)
    values = values.astype(float).replace([np.inf, -np.inf], np.nan)
    for member, task in diverged.items():
        if member in values.index:
            values.loc[member, values.columns >= task] = np.nan
    return values if values.isna().all(axis=None) else values.dropna(axis=1, how="all")


def first_divergence(table: pandas.DataFrame) -> dict[tuple[int, int], int]:
    """The task in which each member diverged that did.

    Args:
        table: metrics, with a column ``run``.

    Returns:
        (run, member) to task.
    """
    frozen = table[table["diverged"].eq(True)] if "diverged" in table else table[:0]
    found = frozen.groupby(["run", "member"])["task"].min()
    return {(int(run), int(member)): int(task) for (run, member), task in found.items()}  # type: ignore[misc]


def draw_members(
    axes: Axes,
    x: numpy.ndarray,
    values: numpy.ndarray,
    colour: str,
    line_style: str = "-",
    settings: int = 1,
    geometric: bool = False,
    ends: tuple[float, float] = (-math.inf, math.inf),
    parts: Collection[str] = PARTS,
) -> tuple[numpy.ndarray, ...]:
    """Draws one of several settings: its members, their mean, and the interval of the mean within its range.

    Args:
        axes: where.
        x: `[K]`.
        values: `[M, K]`; NaN is a member without a value. There is a band where three
            or more have one, or two of the only setting.
        colour: of all of it.
        line_style: of the mean.
        settings: how many are drawn here in all; members are the fainter the more there are.
        geometric: whether mean and interval are those of logarithms, of the members with a positive value: for
            logarithmic axes, on which the lower end of the other interval may not be.
        ends: the smallest and the greatest value that there can be.
        parts: of ``PARTS``, what is drawn beside the mean.

    Returns:
        The finite values of the members, of the lower ends and of the upper ends, for ``limits``; in place of members
        that are not drawn, of the mean.
    """
    import numpy as np
    from matplotlib.collections import LineCollection

    found = _mean_of(values, geometric, ends)
    least = (_LEAST if settings > 1 else 2) if "band" in parts else math.inf
    low, high = (np.where(found.n >= least, end, np.nan) for end in (found.low, found.high))
    faint = max(0.06, min(0.5, 3 / len(values)) / max(1.0, settings / 3))
    if len(x) == 1:
        _draw_dots(axes, x, values, found, (low, high), colour, max(faint, 0.2) if "members" in parts else 0)
    else:
        if len(values) > 1 and "members" in parts:
            lines = [np.column_stack([x, row])[np.isfinite(row)] for row in values]
            pixels = len(values) * settings > _RASTER
            thin = LineCollection(lines, colors=colour, linewidths=0.5, alpha=faint, rasterized=pixels, zorder=1.5)
            axes.add_collection(thin)
        if len(values) >= least:
            style = band_style(colour, len(values), settings)
            if "ls" in style:  # the edges without the ends, which would stand in the panel as vertical lines
                edges = [np.column_stack([x, one]) for one in (low, high)]
                axes.add_collection(LineCollection(edges, colors=colour, zorder=1.8, **_EDGE))
                style = {"color": colour, "alpha": 0.03, "lw": 0}
            axes.fill_between(x, low, high, **style, zorder=1.8)
        marker = "o" if len(x) <= 12 else None
        axes.plot(x, found.estimate, color=colour, ls=line_style, marker=marker, zorder=2.5)
    shown = values if "members" in parts else found.estimate
    return tuple(part[np.isfinite(part)] for part in (shown, low, high))


def _mean_of(values: numpy.ndarray, geometric: bool, ends: tuple[float, float]) -> Interval:
    """The mean over members and its interval, of logarithms if geometric, within what is possible."""
    import numpy as np

    if not geometric:
        return within_range(mean_interval(values), *ends)
    logs = mean_interval(np.log(values, out=np.full(values.shape, np.nan), where=values > 0))
    mean, low, high = (np.exp(one) for one in (logs.estimate, logs.low, logs.high))
    return Interval(mean, low, np.minimum(high, np.maximum(ends[1], mean)), logs.n)


def _draw_dots(
    axes: Axes,
    x: numpy.ndarray,
    values: numpy.ndarray,
    found: Interval,
    ends: tuple[numpy.ndarray, numpy.ndarray],
    colour: str,
    faint: float,
) -> None:
    """Draws a setting of one task: a dot with a bar, and small dots for members unless they are invisible."""
    import numpy as np

    if faint:
        dots = np.repeat(x, len(values))
        axes.plot(dots, values[:, 0], ".", color=colour, alpha=faint, ms=5, mew=0, zorder=1.5)
    bar = np.nan_to_num([found.estimate - ends[0], ends[1] - found.estimate])
    axes.errorbar(x, found.estimate, bar, fmt="o", color=colour, ms=5, mec="white", mew=0.5, lw=1, capsize=2.5)


def band_style(colour: str, members: int, settings: int) -> dict[str, Any]:
    """The style of a band, in a legend and in a panel; invisible where there is none.

    Bands of a few members are as wide as the panel and would lie over each other and over the lines: where there are
    several they are dotted edges.

    Args:
        colour: of its line.
        members: that it is of.
        settings: how many bands are drawn in the panel.

    Returns:
        Properties of a patch.
    """
    if members < (_LEAST if settings > 1 else 2):
        return {"facecolor": "none", "edgecolor": "none"}
    if members > _FEW or settings < 2:
        return {"color": colour, "alpha": BAND, "lw": 0}
    return {"facecolor": "none", "edgecolor": colour, **_EDGE}


def limits(
    drawn: list[tuple[numpy.ndarray, ...]], log: bool, ends: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """The range of the vertical axis.

    Args:
        drawn: what ``draw_members`` returned of each setting; at least one finite value in all.
        log: whether the axis is logarithmic.
        ends: the smallest and the greatest value that there can be.

    Returns:
        Its ends. A linear axis holds a fifth of the greatest value, or of 1 if the range ends, so that noise around a
        constant, or around no error, does not look like an effect.
    """
    # All members, and as much of the bands as leaves members in sight: at two members they are as wide as the range.
    import numpy as np

    lines, low, high = (np.concatenate(parts) for parts in zip(*drawn))
    if log:
        lines, low, high = (np.log10(part[part > 0]) for part in (lines, low, high))
    bottom, top = lines.min(), lines.max()
    room = 0.5 * (top - bottom) or 0.05 * abs(top) or 0.5
    floor = 0.0 if bottom >= 0 and not log else -np.inf
    bottom, top = max(bottom - room, min([bottom, *low]), floor), min(top + room, max([top, *high]))
    if log:
        margin = 0.05 * (top - bottom) or room
        return 10 ** (bottom - margin), 10 ** (top + margin)
    greatest = max(abs(bottom), abs(top))
    whole = min(ends[1] - ends[0], max(greatest, 1.0)) if math.isfinite(ends[1]) else greatest or 1.0
    if (lack := 0.2 * whole - (top - bottom)) > 0:
        bottom = max(bottom - lack / 2, ends[0])
        top = min(bottom + 0.2 * whole, ends[1])
        bottom = min(bottom, top - 0.2 * whole)
    margin = 0.05 * (top - bottom)
    return bottom - margin, top + margin


def colour_of(index: int) -> str:
    """A colour of the palette; it starts anew where it ends.

    Args:
        index: from 0.

    Returns:
        The colour.
    """
    from matplotlib import rcParams

    palette = rcParams["axes.prop_cycle"].by_key()["color"]
    return palette[index % len(palette)]


def line_style_of(index: int) -> str:
    """What tells lines apart that lie on each other or have one colour.

    Args:
        index: as of ``colour_of``.

    Returns:
        The style.
    """
    from matplotlib import rcParams

    again, place = divmod(index, len(rcParams["axes.prop_cycle"]))
    return LINE_STYLES[(place + again) % len(LINE_STYLES)]
