"""``fastplast figure --list``: what each figure shows, the runs it needs, and their time at each scale."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

from fastplast.config import Experiment
from fastplast.data import load
from fastplast.display import duration
from fastplast.engines import pull_of
from fastplast.estimate import seconds_per_update
from fastplast.figures.make import uses_of
from fastplast.figures.registry import FIGURES
from fastplast.figures.studies import SCALES, Use
from fastplast.measure import measure_group
from fastplast.problems import make_task
from fastplast.trainer import prepare

_SAMPLE = 8  # members that a rate of training is measured with
_MEASURED = 1  # members that a measurement is timed with


class _Kind(NamedTuple):
    """Groups that are taken to train and to be measured at one rate, whatever changes from task to task."""

    dataset: str | None
    network: str | None
    examples: int | None
    method: str


class _Rate(NamedTuple):
    """Seconds of an update and of measuring one probe time, of one member."""

    update: float
    measure: float


class _Cost(NamedTuple):
    """Members, their updates in all and seconds of one use at one scale."""

    members: int
    updates: int
    seconds: float


def listing() -> str:
    """All figures with what they would take on this machine.

    Rates are measured with ReLU, once for each dataset, network and kind of method at its full size; they are not
    those of other activations, and a measurement's time is that of an untrained network.

    Returns:
        A table.
    """
    rates: dict[_Kind, _Rate] = {}
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
        f"measured now, with {_SAMPLE} ReLU members of each of {len(rates)} kinds and their first measurement; for "
        "other activations and for later tasks they are estimates. Smoke takes seconds, most of them to start."
    )
    return "\n".join(lines)


def _about(scale: str, seconds: float) -> str:
    return "seconds" if scale == "smoke" else f"about {duration(seconds)}"


def _cost(use: Use, scale: str, rates: dict[_Kind, _Rate]) -> _Cost:
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
            rate = _rate(experiment, rates)
            seconds += updates * rate.update + members * grid["tasks"] * 2 * rate.measure
    count = members * (len(budgets) if isinstance(budgets, list) else 1)
    return _Cost(count, total_updates, seconds)


def _rate(experiment: Experiment, rates: dict[_Kind, _Rate]) -> _Rate:
    e = experiment
    method = "none" if e.method == "none" else "wasserstein"  # the dearest of those that a study crosses
    kind = _Kind(e.dataset, e.network, e.examples, method)
    if kind not in rates:
        rates[kind] = _measured(e, method)
    return rates[kind]


def _measured(experiment: Experiment, method: str) -> _Rate:
    values: dict[str, Any] = {name: getattr(experiment, name) for name in Experiment.__dataclass_fields__}
    values |= {"method": method, "strength": None if method == "none" else (0.01,), "activation": "relu"}
    values |= {"seeds": _SAMPLE, "learning_rate": (1e-3,), "member_list": None}
    dataset = load(experiment.dataset, experiment.data_dir)
    setup = prepare(Experiment(**values), dataset=dataset)
    update = seconds_per_update(setup) / _SAMPLE
    setup = prepare(Experiment(**{**values, "seeds": _MEASURED}), dataset=dataset)
    task, pull, clock = make_task(setup.problem, 0), pull_of(setup.group, setup.state), time.perf_counter()
    measure_group(
        setup.group, setup.state, task, pull, with_probes=True, with_hessian=True, method=experiment.srank_method
    )
    return _Rate(update, (time.perf_counter() - clock) / _MEASURED)
