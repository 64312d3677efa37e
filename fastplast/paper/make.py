"""From a figure's runs to its files: the page, its title and its caption."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastplast.config import ConfigError
from fastplast.drawing.captions import seed_words, span, title_words
from fastplast.drawing.page import FORMATS, add_texts, check_formats, figures_directory, save, styled
from fastplast.paper.kinds.over_tasks import draw_curves
from fastplast.paper.kinds.scatter import draw_explanations, draw_start_end
from fastplast.paper.kinds.scores import draw_scores
from fastplast.paper.kinds.sensitivity import draw_sensitivity
from fastplast.paper.panels import Panels
from fastplast.paper.plans import RUNS, missing_grid, uses_of
from fastplast.paper.registry import Curves, Explanations, Figure, Scores, Sensitivity, StartEnd
from fastplast.paper.results import FigureData, read_results, shortfalls
from fastplast.paper.studies import SCALES, Use

_DRAWERS: dict[type, Callable[..., Panels]] = {
    Curves: draw_curves,
    Explanations: draw_explanations,
    StartEnd: draw_start_end,
    Sensitivity: draw_sensitivity,
    Scores: draw_scores,
}


def draw_figure(
    figure: Figure,
    given: Sequence[str | os.PathLike] | None = None,
    scale: str = SCALES[0],
    out: str | os.PathLike | None = None,
    formats: Sequence[str] = FORMATS,
    runs: str | os.PathLike = RUNS,
) -> list[Path]:
    """Draws a figure from files.

    Args:
        figure: which.
        given: runs or sweeps; the figure's own of `scale` if None.
        scale: of its own runs.
        out: a directory; ``figures/`` of the first run if None.
        formats: of the files.
        runs: the folder of the figure's own runs.

    Returns:
        The files written.

    Raises:
        ConfigError: if its own runs are not finished.
        ValueError: if what is given lacks a column or a setting that the figure needs.
    """
    check_formats(formats)
    if not formats:
        raise ValueError("formats must name at least one: got none.")
    uses = uses_of(figure, scale if given is None else SCALES[0])
    if given is None:
        for use in uses:
            if missing_grid(use, scale, Path(runs)) is not None:
                directory = use.directory(scale, Path(runs))
                raise ConfigError(
                    f"figure {figure.number} needs every member of {directory}: some are not finished. "
                    f"`fastplast figure {figure.number} --scale {scale}` trains them."
                )
        paths: Sequence[str | os.PathLike] = list(dict.fromkeys(use.directory(scale, Path(runs)) for use in uses))
        data = read_results(figure, paths, scale)
    else:
        paths = list(given)
        data = read_results(figure, paths)
    directory = figures_directory(Path(paths[0])) if out is None else Path(out)
    with styled():
        page = page_of(figure, data, uses)
        files = [directory / f"figure-{figure.number:02d}.{name}" for name in formats]
        save(page, files)
    return files


def page_of(figure: Figure, data: FigureData, uses: Sequence[Use]) -> Any:
    """The page of a figure; to be called within ``styled``.

    Args:
        figure: which.
        data: to draw.
        uses: what it would be drawn from, to say what is lacking.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure as Page

    page = Page(layout="constrained")
    panels = _DRAWERS[type(figure.drawing)](page, data, figure.drawing)
    title = "  ·  ".join([f"figure {figure.number}", *title_words(data.means)])
    add_texts(page, panels.size, title, panels.legend, _caption(figure, data, panels, uses))
    return page


def _caption(figure: Figure, data: FigureData, panels: Panels, uses: Sequence[Use]) -> str:
    means = data.means
    sentences = [f"{figure.shows[0].upper()}{figure.shows[1:]} (section {figure.section} of the paper)."]
    sentences += panels.sentences
    updates = data.table.groupby(["run", "member"])["updates"].max()
    members = zip(means["run"], means["member"], means["tasks"])
    per_task = span((round(int(updates[(run, member)]) / tasks) for run, member, tasks in members), ",")
    sentences.append(
        f"n = {len(means)} members in all, {seed_words(means['seed'])}; "
        f"{span(means['tasks'])} task{'s' * int(means['tasks'].max() > 1)} of {per_task} updates."
    )
    if data.scale:
        sentences.append(f"Scale: {data.scale}.")
    if lacks := shortfalls(figure, data, uses):
        sentences.append(f"Of the paper's {'; '.join(lacks)}.")
    sentences.append(f"Data: {'; '.join(data.sources)}.")
    return " ".join(sentences)
