"""``fastplast figure --list``: what each figure shows, the runs it needs, and their time at each scale."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from fastplast.config import Experiment
from fastplast.data import Dataset, load
from fastplast.paper.plans import uses_of
from fastplast.paper.registry import FIGURES
from fastplast.paper.studies import SCALES, Use
from fastplast.text import duration
from fastplast.training.dry_run import seconds_of_measuring, seconds_per_update
from fastplast.training.setup import prepare

_SAMPLE = 8  # members that a rate of training is measured with


class _Kind(NamedTuple):
    """Groups that are taken to train and to be measured at one rate, whatever changes from task to task."""

    dataset: str | None
    network: str | None
    examples: int | None
    method: str


@dataclass
class _Rates:
    """What was measured so far: seconds of an update by kind, and of measuring both ends of a task, of one member.

    What a measurement takes does not depend on the method, so that it is timed once for each network on its data.

    Attributes:
        announce: is told what is timed next, as that takes a while.
    """

    announce: Callable[[str], None]
    update: dict[_Kind, float] = field(default_factory=dict)
    measure: dict[_Kind, float] = field(default_factory=dict)


class _Cost(NamedTuple):
    """Members, their updates in all and seconds of one use at one scale."""

    members: int
    updates: int
    seconds: float


def list_figures(announce: Callable[[str], None]) -> str:
    """All figures with what they would take on this machine.

    Rates are measured with ReLU, once for each dataset, network and kind of method at its full size; they are not
    those of other activations, and a measurement's time is that of an untrained network.

    Args:
        announce: is told what is timed next, as that takes minutes in all.

    Returns:
        A table.
    """
    rates = _Rates(announce)
    lines = ["  N  section  what it shows"]
    for number, figure in FIGURES.items():
        uses = uses_of(figure, SCALES[0])
        lines.append(f"{number:3}  {figure.section:7}  {figure.shows}")
        lines.append(f"{'':14}runs: {', '.join(dict.fromkeys(use.study for use in uses))}")
        words = []
        for scale in SCALES:
            costs = [_cost(use, scale, rates) for use in uses_of(figure, scale)]
            members, updates = sum(cost.members for cost in costs), sum(cost.updates for cost in costs)
            words.append(f"{scale}: {members:,} members, {updates:.2g} updates, "
                         + _about(scale, sum(cost.seconds for cost in costs)))  # fmt: skip
        lines.append(f"{'':14}{'; '.join(words)}")
    lines.append(
        "Times are for all runs of a figure; figures that name the same runs share them. They follow from rates "
        f"measured now, with {_SAMPLE} ReLU members of each of {len(rates.update)} kinds and their first measurement; "
        "for other activations and for later tasks they are estimates. Smoke takes seconds, most of them to start."
    )
    _dataset.cache_clear()
    return "\n".join(lines)


def _about(scale: str, seconds: float) -> str:
    return "seconds" if scale == "smoke" else f"about {duration(seconds)}"


def _cost(use: Use, scale: str, rates: _Rates) -> _Cost:
    """What a study's part takes. Its grid is counted by its values, without being expanded."""
    grid = use.grid(scale)
    members = grid["seeds"] * math.prod(
        len(value)
        for name, value in grid.items()
        if isinstance(value, list) and name not in ("widths", "channels", "epochs")
    )
    budgets = grid.get("epochs", 200)
    total_updates, seconds = 0, 0.0
    for epochs in budgets if isinstance(budgets, list) else [budgets]:
        one = {name: value[0] if isinstance(value, list) else value for name, value in grid.items()}
        lists = {name: tuple(grid[name]) for name in ("widths", "channels") if name in grid}
        experiment = Experiment(**{**one, **lists, "epochs": epochs, "seeds": 1}).resolved()
        updates = members * grid["tasks"] * epochs * experiment.steps_per_epoch()
        total_updates += updates
        if scale != "smoke":
            update, measure = _rate(experiment, rates)
            seconds += updates * update + members * grid["tasks"] * measure
    count = members * (len(budgets) if isinstance(budgets, list) else 1)
    return _Cost(count, total_updates, seconds)


def _rate(experiment: Experiment, rates: _Rates) -> tuple[float, float]:
    """Seconds of an update and of measuring a task of one member, each timed when it is first asked for."""
    e = experiment
    method = "none" if e.method == "none" else "wasserstein"  # the slowest of those that a study crosses
    kind = _Kind(e.dataset, e.network, e.examples, method)
    plain = kind._replace(method="none")
    if kind not in rates.update:
        rates.announce(f"measuring: {e.network} on {e.dataset}, {e.examples:,} examples, method {method}")
        rates.update[kind] = _update_seconds(e, method)
    if plain not in rates.measure:
        rates.measure[plain] = _measure_seconds(e)
    return rates.update[kind], rates.measure[plain]


def _update_seconds(experiment: Experiment, method: str) -> float:
    plain = _relu_members(experiment, _SAMPLE, method=method, strength=None if method == "none" else (0.01,))
    return seconds_per_update(prepare(plain, dataset=_dataset(plain.dataset, plain.data_dir))) / _SAMPLE


def _measure_seconds(experiment: Experiment) -> float:
    plain = _relu_members(experiment, 1, method="none", strength=None, tasks=1, srank="both")
    return seconds_of_measuring(plain, _dataset(plain.dataset, plain.data_dir))


@lru_cache(maxsize=1)  # kinds of one dataset come one after another; a dataset may take hundreds of megabytes
def _dataset(name: str, data_dir: str | None) -> Dataset:
    return load(name, data_dir)


def _relu_members(experiment: Experiment, seeds: int, **changes: Any) -> Experiment:
    """As so many ReLU members at one learning rate."""
    lists = {"learning_rate": (1e-3,), "member_list": None}
    return dataclasses.replace(experiment, activation="relu", seeds=seeds, **lists, **changes).resolved()
