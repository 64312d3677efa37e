"""From a figure's number to its files: which runs are missing, and the page that is drawn from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastplast.config import ConfigError
from fastplast.data import data_dir
from fastplast.drawing.page import FORMATS, check_formats, finish, home_of, save, styled
from fastplast.paper.kinds.over_tasks import Drawn, draw_curves
from fastplast.paper.kinds.scatter import draw_explanations, draw_start_end
from fastplast.paper.kinds.scores import draw_scores
from fastplast.paper.kinds.sensitivity import draw_sensitivity
from fastplast.paper.registry import Curves, Explanations, Figure, Scores, Sensitivity, StartEnd
from fastplast.paper.results import Results, lacking, read_results
from fastplast.paper.studies import SCALES, Use
from fastplast.runs.paths import SHARDS, shard_paths
from fastplast.runs.run import Run
from fastplast.sweeps import Grid, SweepPlan, expand, grid_of, make_plan
from fastplast.sweeps.grid import key_of
from fastplast.sweeps.sweep import read_keys

RUNS = "runs"
_DRAW: dict[type, Callable[..., Drawn]] = {
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
    held = {key for path in shard_paths(directory) if Run(path).is_finished for key in read_keys(Run(path))}
    return None if {key_of(cell) for cell in expand(grid)} <= held else grid


def plans(figure: Figure, scale: str, runs: str | os.PathLike = RUNS) -> Iterator[SweepPlan]:
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
        results = read_results(figure, given)
        lines.append(f"draws {len(results.means)} members of {', '.join(map(str, given))}; trains nothing")
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
        results = read_results(figure, paths, scale)
    else:
        paths = list(given)
        results = read_results(figure, paths)
    directory = home_of(Path(paths[0])) if out is None else Path(out)
    with styled():
        page = page_of(figure, results, uses)
        files = [directory / f"figure-{figure.number:02d}.{name}" for name in formats]
        save(page, files)
    return files


def page_of(figure: Figure, results: Results, uses: Sequence[Use]) -> Any:
    """The page of a figure; to be called within ``styled``.

    Args:
        figure: which.
        results: to draw.
        uses: what it would be drawn from, to say what is lacking.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure as Page

    page = Page(layout="constrained")
    drawn = _DRAW[type(figure.drawing)](page, results, figure.drawing)
    finish(page, drawn.size, _title(figure, results), drawn.legend, _caption(figure, results, drawn, uses))
    return page


def _title(figure: Figure, results: Results) -> str:
    means, words = results.means, [f"figure {figure.number}"]
    for name in ("benchmark", "network", "activation"):
        values = sorted(set(means[name].dropna()))
        words.append(", ".join(values) if len(values) <= 2 else f"{len(values)} {name}s".replace("ys", "ies"))
    return "  ·  ".join(words)


def _caption(figure: Figure, results: Results, drawn: Drawn, uses: Sequence[Use]) -> str:
    means = results.means
    seeds = sorted({int(seed) for seed in means["seed"]})
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    span = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))
    tasks = sorted({int(one) for one in means["tasks"]})
    count = f"{tasks[0]}" if len(tasks) == 1 else f"{tasks[0]} to {tasks[-1]}"
    updates = results.table.groupby(["run", "member"])["updates"].max()
    each = sorted(
        {round(int(updates[(run, m)]) / t) for run, m, t in zip(means["run"], means["member"], means["tasks"])}
    )
    per_task = f"{each[0]:,}" if len(each) == 1 else f"{each[0]:,} to {each[-1]:,}"
    shows = figure.shows[0].upper() + figure.shows[1:]
    sentences = [f"{shows} (section {figure.section} of the paper).", *drawn.sentences]
    plural = "s" * (tasks[-1] > 1)
    sentences.append(
        f"n = {len(means)} members in all, seed{'s' * (len(seeds) > 1)} {span}; "
        f"{count} task{plural} of {per_task} updates."
    )
    if results.scale:
        sentences.append(f"Scale: {results.scale}.")
    if lacks := lacking(figure, results, uses):
        sentences.append(f"Of the paper's {'; '.join(lacks)}.")
    sentences.append(f"Data: {'; '.join(results.sources)}.")
    return " ".join(sentences)
