"""What must be trained before a figure can be drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastplast.paper.registry import Figure
from fastplast.paper.results import read_results
from fastplast.paper.studies import Use
from fastplast.paper.uses import uses_of
from fastplast.runs.paths import SHARDS, shard_paths
from fastplast.runs.run import Run
from fastplast.sweeps import Grid, SweepPlan, expand, grid_of, make_plan
from fastplast.sweeps.dry_run import dry_run
from fastplast.sweeps.grid import course_of
from fastplast.sweeps.sweep import read_courses

RUNS = "runs"


def missing_grid(use: Use, scale: str, runs: Path) -> Grid | None:
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
    held: dict[str, int] = {}
    for run in map(Run, shard_paths(directory)):
        if run.is_finished:
            held |= {key: max(int(run.config["tasks"]), held.get(key, 0)) for key in read_courses(run)}
    is_there = all(held.get(course_of(cell), 0) >= (cell.group.tasks or 0) for cell in expand(grid))
    return None if is_there else grid


def plan_missing(figure: Figure, scale: str, runs: str | os.PathLike = RUNS) -> Iterator[SweepPlan]:
    """What must be trained before a figure can be drawn; nothing where its sweeps hold every member.

    Args:
        figure: which.
        scale: one of ``SCALES``.
        runs: the folder of all runs.

    Yields:
        Plans, each to be carried out before the next.
    """
    for use in uses_of(figure, scale):
        grid = missing_grid(use, scale, Path(runs))
        if grid is not None:
            directory = use.directory(scale, Path(runs))
            (directory / SHARDS).mkdir(parents=True, exist_ok=True)
            yield make_plan(grid, directory)


def preview(
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
    lines = [f"{figure.title} (section {figure.section}): {figure.shows}"]
    if given is not None:
        data = read_results(figure, given)
        lines.append(f"draws {len(data.means)} members of {', '.join(map(str, given))}; trains nothing")
        return "\n".join(lines)
    for use in uses_of(figure, scale):
        directory = use.directory(scale, Path(runs))
        grid = missing_grid(use, scale, Path(runs))
        if grid is None:
            lines.append(f"{directory}: every member is there")
            continue
        if scale == "smoke":  # the directory in which there are no images need not be there yet
            grid = grid_of({**use.grid(scale), "data_dir": str(Path(__file__).parent)})
        lines.append(dry_run(make_plan(grid, directory)))
    return "\n".join(lines)
