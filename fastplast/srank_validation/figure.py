"""Figures of comparisons: certified stable ranks beside exact ones, and where one way overtakes another."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.drawing.page import styled
from fastplast.runs.files import write_file

if TYPE_CHECKING:
    from fastplast.srank_validation.cases import Case

_MARKS = {"lanczos": "o", "truncated": "s", "auto": "D"}


def plot_validation(cases: Sequence[Case], path: str | os.PathLike) -> Path:
    """Draws bounds against the exact rank, what others would have said, and the speed-up.

    Args:
        cases: of ``fastplast.srank_validation.cases``.
        path: a PNG file, replaced.

    Returns:
        Its path.
    """

    def draw(figure: Any) -> None:
        bounds, others, speed = figure.subplots(1, 3)
        for method, mark in _MARKS.items():
            part = [case for case in cases if case.method == method]
            if not part:
                continue
            exact = [case.exact for case in part]
            below = [max(case.estimate - case.lo, 0) for case in part]  # a wrong certificate is drawn too
            above = [max(min(case.hi, case.dimension) - case.estimate, 0) for case in part]
            off = [case.estimate - case.exact for case in part]
            bounds.errorbar(exact, off, (below, above), fmt=mark, ms=3, lw=0.8, alpha=0.7, label=method)
            speed.plot(exact, [case.speed_up for case in part], mark, ms=3, alpha=0.7, label=method)
        states = [case for case in cases if case.method == "auto"]
        for name, label in (
            ("fisher", "empirical Fisher"),
            ("gauss_newton", "Gauss-Newton"),
            ("plain_lanczos", "Lanczos, 100 steps"),
        ):
            said = [getattr(case, name) for case in states]
            others.plot([case.exact for case in states], said, "o", ms=3, label=label)
        top = max([1, *(case.exact for case in states)])
        others.plot([0, top], [0, top], color="0.5", lw=0.8)
        bounds.axhline(0, color="0.5", lw=0.8)
        bounds.set(xlabel="exact stable rank", ylabel="certified interval - exact", title="certificates")
        others.set(xlabel="exact stable rank", ylabel="reported", title="other estimates")
        speed.axhline(1, color="0.5", lw=0.8)
        speed.set(xlabel="exact stable rank", ylabel="time of exact / time", title="speed-up", yscale="log")
        for axes in (bounds, others, speed):
            if axes.get_legend_handles_labels()[1]:
                axes.legend(fontsize=6.5)

    return _save(draw, path, (9.6, 3.0))


def plot_crossover(ranks: Sequence[int], seconds: Mapping[str, Sequence[float]], path: str | os.PathLike) -> Path:
    """Draws the time of each method against the stable rank.

    Args:
        ranks: `[n]`, exact.
        seconds: method to `[n]` seconds.
        path: a PNG file, replaced.

    Returns:
        Its path.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for method, values in seconds.items():
            axes.plot(ranks, values, "o", ms=3, label=method)
        axes.set(xlabel="stable rank", ylabel="seconds of one member", yscale="log")
        axes.legend(fontsize=7)

    return _save(draw, path, (4.4, 3.2))


def _save(draw: Any, path: str | os.PathLike, size: tuple[float, float]) -> Path:
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    path = Path(path).expanduser()
    write_file(path, buffer.getvalue())
    return path
