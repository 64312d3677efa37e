"""J_K against the strength of every method, beside the level without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastplast.drawing.bands import BAND, colour_of, draw_members, limits
from fastplast.drawing.captions import count_words
from fastplast.drawing.panels import legend_handle
from fastplast.drawing.settings import phrase
from fastplast.paper.lines import colour_index, in_panel, values_of
from fastplast.paper.panels import Panels, panels_of, title_of
from fastplast.paper.registry import Sensitivity
from fastplast.paper.results import FigureData, Frame
from fastplast.stats import mean_interval

if TYPE_CHECKING:
    import numpy
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_sensitivity(figure: Figure, data: FigureData, spec: Sensitivity) -> Panels:
    """Draws J_K against strength on a logarithmic axis, a line for each method.

    Args:
        figure: empty.
        data: to draw.
        spec: what tells panels apart.

    Returns:
        What was drawn.

    Raises:
        ValueError: if no member has a method with a strength.
    """
    means = data.means
    with_strength = means[(means["method"] != "none") & (means["strength"] > 0)]
    if with_strength.empty:
        raise ValueError(
            f"figure {data.figure.number} needs members with a method and strengths: the results have only "
            f"{', '.join(sorted(map(str, means['method'].unique())))}. Sweep over --strength."
        )
    panels = panels_of(data, spec.panels)
    wide = len(values_of(with_strength, spec.panels[-1]))
    tall = -(-len(panels) // wide)
    rows = figure.subplots(tall, wide, squeeze=False, sharey=True)
    drawn: list[tuple] = []
    counts: dict[str, set[int]] = {}
    for i, panel in enumerate(panels):
        axes, part = rows[i // wide][i % wide], in_panel(means, panel)
        axes.set_title(title_of(panel), fontsize=7.5)
        drawn += _panel(axes, part, means, counts)
        axes.set_xscale("log")
        if i // wide == tall - 1:
            axes.set_xlabel("strength")
        if i % wide == 0:
            axes.set_ylabel("$J_K$, mean error at task end")
    for axes in list(rows.flat)[len(panels) :]:
        axes.set_visible(False)
    rows[0][0].set_ylim(*limits(drawn, False))
    others = data.varying(means, (*spec.panels, "method", "strength"))
    words = ["Line: mean over members; band: its 95% t interval; thin lines: members of one seed."]
    if "none" in counts:
        words.append("Dashed line and band across: no method, the same.")
    if others:
        words.append(f"Members of different {', '.join(name.replace('_', ' ') for name in others)} are taken together.")
    size = (max(4.8, wide * (3.4 if wide < 3 else 2.5)), 2.3 * tall)
    return Panels(size, _legend(means, counts), words)


def _panel(axes: Axes, part: Frame, means: Frame, counts: dict[str, set[int]]) -> list[tuple[numpy.ndarray, ...]]:
    import numpy as np

    drawn = []
    for method in values_of(part, "method"):
        own, colour = part[part["method"] == method], colour_of(colour_index(means, "method", method))
        if method == "none":
            level = mean_interval(own["mean_error"].to_numpy(float))
            ends = [float(one) for one in (level.low, level.high)]
            if np.isfinite(ends).all():
                axes.axhspan(*ends, color=colour, alpha=BAND / 2, lw=0, zorder=1.2)
            axes.axhline(float(level.estimate), color=colour, ls="--", lw=1.2, zorder=1.4)
            held = own["mean_error"].dropna().to_numpy(float)
            drawn.append((held, np.array(ends)[np.isfinite(ends)], np.array(ends)[np.isfinite(ends)]))
            counts.setdefault(method, set()).add(len(held))
            continue
        table = own.pivot_table(index=["seed"], columns="strength", values="mean_error", aggfunc="mean", dropna=False)
        table = table.loc[:, table.notna().any()].sort_index(axis=1)
        counts.setdefault(method, set()).update(int(n) for n in table.notna().sum())
        strengths = table.columns.to_numpy(float)
        drawn.append(draw_members(axes, strengths, table.to_numpy(float), colour, "-", 3))
    return drawn


def _legend(means: Frame, counts: dict[str, set[int]]) -> list[tuple[Any, str]]:
    entries = []
    for method in values_of(means, "method"):
        found = counts.get(method)
        if not found:
            continue
        style, settings, where = ("--", 1, "") if method == "none" else ("-", 3, " at each strength")
        handle = legend_handle(colour_index(means, "method", method), max(found), settings, style)
        entries.append((handle, f"{phrase('method', method)} ({count_words(found, 0)}{where})"))
    return entries
