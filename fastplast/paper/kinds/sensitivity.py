"""J_K against the strength of every method, beside the level without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastplast.drawing.bands import BAND, band_look, colour_of, draw_members, limits
from fastplast.drawing.settings import phrase
from fastplast.paper.kinds.over_tasks import Drawn, panels_of, title_of
from fastplast.paper.lines import colour_index, in_panel, values_of
from fastplast.paper.registry import Sensitivity
from fastplast.paper.results import Frame, Results
from fastplast.stats import mean_interval

if TYPE_CHECKING:
    import numpy
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_sensitivity(figure: Figure, results: Results, spec: Sensitivity) -> Drawn:
    """Draws J_K against strength on a logarithmic axis, a line for each method.

    Args:
        figure: empty.
        results: to draw.
        spec: what tells panels apart.

    Returns:
        What was drawn.

    Raises:
        ValueError: if no member has a method with a strength.
    """
    means = results.means
    with_strength = means[(means["method"] != "none") & (means["strength"] > 0)]
    if with_strength.empty:
        raise ValueError(
            f"figure {results.figure.number} needs members with a method and strengths: the results have only "
            f"{', '.join(sorted(map(str, means['method'].unique())))}. Sweep over --strength."
        )
    panels = panels_of(results, spec.panels)
    wide = len(values_of(with_strength, spec.panels[-1]))
    tall = -(-len(panels) // wide)
    rows = figure.subplots(tall, wide, squeeze=False, sharey=True)
    seen: list[tuple] = []
    counts: dict[str, set[int]] = {}
    for i, panel in enumerate(panels):
        axes, part = rows[i // wide][i % wide], in_panel(means, panel)
        axes.set_title(title_of(panel), fontsize=7.5)
        seen += _panel(axes, part, means, counts)
        axes.set_xscale("log")
        if i // wide == tall - 1:
            axes.set_xlabel("strength")
        if i % wide == 0:
            axes.set_ylabel("$J_K$, mean error at task end")
    for axes in list(rows.flat)[len(panels) :]:
        axes.set_visible(False)
    rows[0][0].set_ylim(*limits(seen, False))
    others = results.varying(means, (*spec.panels, "method", "strength"))
    words = ["Line: mean over members; band: its 95% t interval; thin lines: members of one seed."]
    if "none" in counts:
        words.append("Dashed line and band across: no method, the same.")
    if others:
        words.append(f"Members of different {', '.join(name.replace('_', ' ') for name in others)} are taken together.")
    size = (max(4.8, wide * (3.4 if wide < 3 else 2.5)), 2.3 * tall)
    return Drawn(size, _legend(means, counts), words)


def _panel(axes: Axes, part: Frame, means: Frame, counts: dict[str, set[int]]) -> list[tuple[numpy.ndarray, ...]]:
    import numpy as np

    seen = []
    for method in values_of(part, "method"):
        own, colour = part[part["method"] == method], colour_of(colour_index(means, "method", method))
        if method == "none":
            level = mean_interval(own["j_k"].to_numpy(float))
            ends = [float(one) for one in (level.low, level.high)]
            if np.isfinite(ends).all():
                axes.axhspan(*ends, color=colour, alpha=BAND / 2, lw=0, zorder=1.2)
            axes.axhline(float(level.estimate), color=colour, ls="--", lw=1.2, zorder=1.4)
            held = own["j_k"].dropna().to_numpy(float)
            seen.append((held, np.array(ends)[np.isfinite(ends)], np.array(ends)[np.isfinite(ends)]))
            counts.setdefault(method, set()).add(len(held))
            continue
        table = own.pivot_table(index=["seed"], columns="strength", values="j_k", aggfunc="mean", dropna=False)
        table = table.loc[:, table.notna().any()].sort_index(axis=1)
        counts.setdefault(method, set()).update(int(n) for n in table.notna().sum())
        strengths = table.columns.to_numpy(float)
        seen.append(draw_members(axes, strengths, table.to_numpy(float), colour, "-", 3))
    return seen


def _legend(means: Frame, counts: dict[str, set[int]]) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = []
    for method in values_of(means, "method"):
        found = sorted(counts.get(method, ()))
        if not found:
            continue
        colour = colour_of(colour_index(means, "method", method))
        line = Line2D([], [], color=colour, ls="--" if method == "none" else "-")
        n = f"n = {found[0]}" if len(found) == 1 else f"n = {found[0]} to {found[-1]}"
        text = f"{phrase('method', method)} ({n}{'' if method == 'none' else ' at each strength'})"
        look = band_look(colour, found[-1], 1 if method == "none" else 3)
        entries.append(((Patch(**look), line), text))
    return entries
