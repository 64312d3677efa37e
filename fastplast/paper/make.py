"""From a figure's runs to its files: the page, its title and caption, and the text beside it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastplast.config import ConfigError, Experiment
from fastplast.drawing.captions import seed_words, span, title_words
from fastplast.drawing.page import (
    CAPTION_LINES,
    FORMATS,
    add_texts,
    check_formats,
    figures_directory,
    fit_caption,
    plain,
    save,
    styled,
)
from fastplast.networks import NETWORKS
from fastplast.paper.grid import Drawn, draw_grid
from fastplast.paper.plans import RUNS, missing_grid
from fastplast.paper.registry import Figure, Scores
from fastplast.paper.results import FigureData, read_results
from fastplast.paper.scores import draw_scores
from fastplast.paper.studies import SCALES, STUDIES, Use
from fastplast.paper.uses import uses_of
from fastplast.runs.files import write_file

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure as Page


def draw_figure(
    figure: Figure,
    given: Sequence[str | os.PathLike] | None = None,
    scale: str = SCALES[0],
    out: str | os.PathLike | None = None,
    formats: Sequence[str] = FORMATS,
    runs: str | os.PathLike = RUNS,
) -> list[Path]:
    """Draws a figure from files, with a text beside it that says all that its caption has no room for.

    Args:
        figure: which.
        given: runs, sweeps or files of results; the figure's own of `scale` if None.
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
                    f"{figure.title} needs every member of {directory}: some are not finished. "
                    f"`fastplast figure {figure.name} --scale {scale}` trains them."
                )
        paths: Sequence[str | os.PathLike] = list(dict.fromkeys(use.directory(scale, Path(runs)) for use in uses))
        data = read_results(figure, paths, scale)
    else:
        paths = list(given)
        data = read_results(figure, paths)
    directory = figures_directory(Path(paths[0])) if out is None else Path(out).expanduser()
    with styled():
        page, sentences = page_of(figure, data, uses)
        files = [directory / f"{figure.stem}.{name}" for name in formats]
        save(page, files)
    text = directory / f"{figure.stem}.txt"
    write_file(text, ("\n".join(textwrap.fill(one, 100) for one in sentences) + "\n").encode())
    return [*files, text]


def page_of(figure: Figure, data: FigureData, uses: Sequence[Use]) -> tuple[Page, list[str]]:
    """The page of a figure; to be called within ``styled``.

    Args:
        figure: which.
        data: to draw.
        uses: what it would be drawn from, to say what is lacking.

    Returns:
        The page, and all there is to say of it.
    """
    from matplotlib.figure import Figure as Page

    page = Page(layout="constrained")
    spec = figure.drawing
    drawn = draw_scores(page, data, spec) if isinstance(spec, Scores) else draw_grid(page, data, spec)
    shows = figure.shows[0].upper() + figure.shows[1:]
    if datasets := _datasets(data):
        shows = shows.replace("Continual ImageNet", f"Continual ImageNet's protocol on {datasets}")
    first = f"{shows} (section {figure.section})."
    reduced = _reductions(uses) if data.scale == "smoke" else []
    caption = [first, *drawn.caption[:1], _counts(data, drawn, uses), *reduced, *drawn.caption[1:]]
    caption += [figure.choice] if figure.choice else []
    more = [*drawn.more, f"Data: {'; '.join(data.sources)}."]
    title = "  ·  ".join([figure.title, *_title(data, drawn)])
    text = fit_caption(caption, drawn.size[0], CAPTION_LINES, f"More: {figure.stem}.txt.")
    add_texts(page, drawn.size, plain(title), [(one, plain(label)) for one, label in drawn.legend], text)
    if data.scale == "smoke":
        page.text(0.5, 0.55, "smoke scale: no result", fontsize=26, color="0.5", alpha=0.35, rotation=20,
                  ha="center", va="center", gid="watermark")  # fmt: skip
    return page, [title, *caption, *more]


def _drawn_members(data: FigureData, drawn: Drawn) -> pandas.DataFrame:
    """What describes the members that a figure shows: all of them, unless it chose some."""
    if not drawn.members:
        return data.means
    return data.means[[pair in drawn.members for pair in zip(data.means["run"], data.means["member"])]]


def _title(data: FigureData, drawn: Drawn) -> list[str]:
    """As of every figure, with the dataset where the problem is not called by it."""
    found, datasets = title_words(_drawn_members(data, drawn)), _datasets(data)
    return [f"{found[0]} of {datasets}", *found[1:]] if datasets else found


def _datasets(data: FigureData) -> str:
    """The datasets of problems that are called by what changes in them."""
    named = data.means["benchmark"].isin(["class_pairs", "label_shuffle", "pixel_permute"])
    return ", ".join(sorted(set(data.means.loc[named, "dataset"])))


def _counts(data: FigureData, drawn: Drawn, uses: Sequence[Use]) -> str:
    """Members that are drawn, their seeds, tasks and updates, beside what the paper has."""
    means = _drawn_members(data, drawn)
    updates = data.table.groupby(["run", "member"])["updates"].max()
    members = zip(means["run"], means["member"], means["tasks"])
    per_task = span((round(int(updates[(run, member)]) / tasks) for run, member, tasks in members), ",")
    tasks = max(int(use.grid("paper")["tasks"]) for use in uses)
    seeds = max(STUDIES[use.study].seeds[0] for use in uses if use.seeds is None)
    scale = f"; scale {data.scale}" if data.scale else ""
    return (
        f"{len(means)} members, {seed_words(means['seed'])} (paper: {seeds}), {span(means['tasks'])} tasks (paper: "
        f"{tasks}) of {per_task} updates{scale}."
    )


def _reductions(uses: Sequence[Use]) -> list[str]:
    """What is smaller at the scale smoke than in the paper, but for seeds and tasks, of which ``_counts`` tells."""
    found: dict[str, None] = {}
    for use in uses:
        small, whole = use.grid("smoke"), use.grid("paper")
        known = Experiment(benchmark=whole["benchmark"]).resolved()
        preset = NETWORKS[whole.get("network") or known.network or ""]
        usual = {name: getattr(preset, name, ()) for name in ("widths", "channels")}
        for name in (
            "examples",
            "test_examples",
            "batch_size",
            "epochs",
            "widths",
            "channels",
            "strength",
            "reduction",
        ):
            had = whole.get(name, usual.get(name, getattr(known, name)))
            if name in small and _sizes(name, small[name]) != _sizes(name, had):
                words = f"{name.replace('_', ' ')} {_sizes(name, small[name])} (paper: {_sizes(name, had)})"
                found[words] = None
    return [f"Reduced: {', '.join(found)}."] if found else []


def _sizes(name: str, value: object) -> str:
    values = value if isinstance(value, (list, tuple)) else [value]
    return ("-" if name in ("widths", "channels") else "/").join(
        f"{one:,}" if isinstance(one, int) else f"{one:g}" if isinstance(one, float) else str(one) for one in values
    )
