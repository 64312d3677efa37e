"""From a figure's number to its files: which runs are missing, and the page that is drawn from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastplast.config import ConfigError
from fastplast.data import data_dir
from fastplast.drawing.captions import seed_words, span, title_words
from fastplast.drawing.page import FORMATS, check_formats, finish, home_of, save, styled
from fastplast.paper.kinds.over_tasks import draw_curves
from fastplast.paper.kinds.scatter import draw_explanations, draw_start_end
from fastplast.paper.kinds.scores import draw_scores
from fastplast.paper.kinds.sensitivity import draw_sensitivity
from fastplast.paper.panels import Panels
from fastplast.paper.registry import Curves, Explanations, Figure, Scores, Sensitivity, StartEnd
from fastplast.paper.results import FigureData, read_results, shortfalls
from fastplast.paper.studies import SCALES, Use
from fastplast.runs.run import Run
from fastplast.sweeps import Grid, Plan, expand, grid_of, make_plan
from fastplast.sweeps.grid import key_of
from fastplast.sweeps.reader import SHARDS, keys_of, shard_paths

RUNS = "runs"
_DRAW: dict[type, Callable[..., Panels]] = {
    Curves: draw_curves,
    Explanations: draw_explanations,
    StartEnd: draw_start_end,
    Sensitivity: draw_sensitivity,
    Scores: draw_scores,
}


def uses_of(figure: Figure, scale: str) -> tuple[Use, ...]:
    """The runs of a figure, or those that stand in for them where ImageNet is not on this machine.

    Args:
        figure: which.
        scale: at ``smoke`` only images that travel with the package are used.

    Returns:
        What it is drawn from.
    """
    if figure.alternative and (scale == "smoke" or not (data_dir() / "imagenet32").is_dir()):
        return figure.alternative
    return figure.uses


def missing(use: Use, scale: str, runs: Path) -> Grid | None:
    """The grid of what a figure needs of a study, if any member of it is not finished.

    Args:
        use: of the study.
        scale: one of ``SCALES``.
        runs: the folder of all runs.

    Returns:
        The grid, or None where all of it is there.
    """
    directory, values = use.directory(scale, runs), use.grid(scale)
    if scale == "smoke":
        values["data_dir"] = str(directory)  # where no images are, so that the embedded ones are taken
    grid = grid_of(values)
    held = {key for path in shard_paths(directory) if Run(path).is_finished for key in keys_of(Run(path))}
    return None if {key_of(cell) for cell in expand(grid)} <= held else grid


def plans(figure: Figure, scale: str, runs: str | os.PathLike = RUNS) -> Iterator[Plan]:
    """What must be trained before a figure can be drawn; nothing where its sweeps hold every member.

    Args:
        figure: which.
        scale: one of ``SCALES``.
        runs: the folder of all runs.

    Yields:
        Plans, each to be carried out before the next.
    """
    for use in uses_of(figure, scale):
        grid = missing(use, scale, Path(runs))
        if grid is not None:
            directory = use.directory(scale, Path(runs))
            (directory / SHARDS).mkdir(parents=True, exist_ok=True)
            yield make_plan(grid, directory)


def describe(
    figure: Figure, scale: str, given: Sequence[str | os.PathLike] | None = None, runs: str | os.PathLike = RUNS
) -> str:
    """What a figure would be drawn from, and what would be trained for it, with memory and time.

    Args:
        figure: which.
        scale: one of ``SCALES``.
        given: runs or sweeps to draw, of which nothing is trained.
        runs: the folder of all runs.

    Returns:
        Text.
    """
    from fastplast.sweeps.dry_run import dry_run

    lines = [f"figure {figure.number} (section {figure.section}): {figure.shows}"]
    if given is not None:
        data = read_results(figure, given)
        lines.append(f"draws {len(data.means)} members of {', '.join(map(str, given))}; trains nothing")
        return "\n".join(lines)
    for use in uses_of(figure, scale):
        directory = use.directory(scale, Path(runs))
        grid = missing(use, scale, Path(runs))
        if grid is None:
            lines.append(f"{directory}: every member is there")
            continue
        if scale == "smoke":  # the directory in which there are no images need not be there yet
            grid = grid_of({**use.grid(scale), "data_dir": str(Path(__file__).parent)})
        lines.append(dry_run(make_plan(grid, directory)))
    return "\n".join(lines)


def draw(
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
            if missing(use, scale, Path(runs)) is not None:
                place = use.directory(scale, Path(runs))
                raise ConfigError(
                    f"figure {figure.number} needs every member of {place}: some are not finished. "
                    f"`fastplast figure {figure.number} --scale {scale}` trains them."
                )
        paths: Sequence[str | os.PathLike] = list(dict.fromkeys(use.directory(scale, Path(runs)) for use in uses))
        data = read_results(figure, paths, scale)
    else:
        paths = list(given)
        data = read_results(figure, paths)
    directory = home_of(Path(paths[0])) if out is None else Path(out)
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
    panels = _DRAW[type(figure.drawing)](page, data, figure.drawing)
    title = "  ·  ".join([f"figure {figure.number}", *title_words(data.means)])
    finish(page, panels.size, title, panels.legend, _caption(figure, data, panels, uses))
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
