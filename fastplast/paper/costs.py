"""``fastplast figure --list``: what each figure shows, the runs it needs, and their time at each scale."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastplast.config import Experiment
from fastplast.paper.registry import FIGURES
from fastplast.paper.studies import SCALES, Use
from fastplast.paper.uses import uses_of
from fastplast.text import duration

# Seconds of an update of one member, without a regulariser and with one, and of measuring it at one end of a task, on
# two cores of an AMD EPYC. Updates of mlp and cnn: bench/results; the regularisers are three, of which the Wasserstein
# takes longest. The others: timings of the files in docs/results, of an earlier training step on a shared machine; of
# mlp13 and convnet none had a regulariser, and they are taken to be slower as mlp and cnn were.
_SECONDS = {
    "mlp": (4.9e-5, 1.5e-4, 1.0),
    "cnn": (4.3e-4, 5.1e-4, 1.5),
    "mlp13": (5.6e-4, 1.1e-3, 2.0),
    "convnet": (9.8e-2, 0.12, 18.0),
}


class _Cost(NamedTuple):
    """Members, their updates in all and seconds of one use at one scale."""

    members: int
    updates: int
    seconds: float


def list_figures() -> str:
    """All figures with what they would take. Nothing is measured and no data are read, so that it is quick.

    Returns:
        A table.
    """
    lines = ["figure       section  what it shows"]
    for name, figure in FIGURES.items():
        lines.append(f"{name!s:11}  {figure.section:7}  {figure.shows}")
        lines.append(f"{'':22}runs: {', '.join(dict.fromkeys(use.study for use in uses_of(figure, SCALES[0])))}")
        words = []
        for scale in SCALES:
            costs = [_cost(use, scale) for use in uses_of(figure, scale)]
            members, updates = sum(cost.members for cost in costs), sum(cost.updates for cost in costs)
            time = "seconds" if scale == "smoke" else f"about {duration(sum(cost.seconds for cost in costs))}"
            words.append(f"{scale}: {members:,} members, {updates:.2g} updates, {time}")
        lines.append(f"{'':22}{'; '.join(words)}")
    lines.append(
        "Times are for all runs of a figure, of which figures that name the same share them. They are estimates "
        "from rates on two cores of an AMD EPYC; --dry-run measures this machine."
    )
    return "\n".join(lines)


def _cost(use: Use, scale: str) -> _Cost:
    """What a study's part takes. Its grid is counted by its values, without being expanded."""
    grid = use.grid(scale)
    crossed = [value for name, value in grid.items() if isinstance(value, list) and name not in ("widths", "channels")]
    members = grid["seeds"] * math.prod(map(len, crossed))
    one = {name: value[0] if isinstance(value, list) else value for name, value in grid.items()}
    lists = {name: tuple(grid[name]) for name in ("widths", "channels") if name in grid}
    experiment = Experiment(**{**one, **lists, "seeds": 1}).resolved()
    epochs = grid.get("epochs", experiment.epochs)
    mean_epochs = sum(epochs) / len(epochs) if isinstance(epochs, list) else epochs
    updates = members * grid["tasks"] * round(mean_epochs * experiment.steps_per_epoch())
    ends = {"off": 0, "start": 1, "both": 2}[experiment.srank]
    plain, regularised, measure = _SECONDS[experiment.network or "mlp"]
    update = plain if experiment.method == "none" else regularised
    return _Cost(members, updates, updates * update + members * grid["tasks"] * ends * measure)
