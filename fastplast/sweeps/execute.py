"""Runs a plan: shard after shard, each an ordinary run that is made or resumed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastplast.api import proceed, start
from fastplast.runs.files import take_lock
from fastplast.runs.paths import SHARDS
from fastplast.sweeps.grid import grid_of
from fastplast.sweeps.plan import Plan, Shard, make_plan
from fastplast.sweeps.reader import Sweep
from fastplast.sweeps.request import remember
from fastplast.training.loop import Event, Stopped
from fastplast.training.setup import Setup


def sweep(
    grid: Mapping[str, Any] | Iterable[Mapping[str, Any]],
    out: str | os.PathLike,
    *,
    part: tuple[int, int] = (0, 1),
    memory: float | None = None,
    batch: int | None = None,
) -> Sweep:
    """Trains every member of a grid that its directory does not hold yet.

    Args:
        grid: field of ``Experiment`` to a value or a list of values, which are crossed; or several such crosses.
        out: the sweep directory; made if there is none.
        part: i and n: train only this slice of n.
        memory: GiB that a batch may take; what is free if None.
        batch: most members of a batch; as many as fit if None.

    Returns:
        The sweep, for reading.

    Raises:
        ConfigError: if the grid is bad; nothing has run then.

    Example:
        >>> import fastplast as fp
        >>> grid = {"activation": ["relu", "tanh"], "method": ["none", "l2"], "strength": [0.1, 0.01], "seeds": 10}
        >>> fp.sweep(grid, "runs/mine").metrics()  # doctest: +SKIP
    """
    plan = make_plan(grid_of(grid), out, part=part, memory=memory, batch=batch)
    for _, _, events in execute(plan):
        for _ in events:
            pass
    return Sweep(out)


def execute(plan: Plan, stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[Shard, Setup, Iterator[Event]]]:
    """Makes or resumes the shards of a plan, one after another; each trains as its events are consumed.

    Args:
        plan: what to do.
        stop: asked after every epoch; True ends training after a checkpoint, and the sweep with it.

    Yields:
        Shard, its setup, and its events, to be consumed before the next.
    """
    (plan.directory / SHARDS).mkdir(parents=True, exist_ok=True)
    remember(plan.directory, plan.grid)
    for shard in plan.shards:
        dataset = plan.datasets.get(shard.experiment.dataset)
        if shard.is_begun:
            setup, events = proceed(shard.path, dataset=dataset, stop=stop)
        else:
            _clear(shard.path)
            setup, events = start(shard.experiment, dataset=dataset, stop=stop)
        stopped = False

        def watched(events: Iterator[Event] = events) -> Iterator[Event]:
            nonlocal stopped
            for event in events:
                stopped = isinstance(event, Stopped)
                yield event

        yield shard, setup, watched()
        if stopped or stop():
            return


def _clear(path: Path) -> None:
    """Removes what a process left that was killed while it made the shard, before it became a run."""
    if not path.is_dir() or (path / "config.json").exists():
        return
    lock = take_lock(path)
    try:
        if not (path / "config.json").exists():
            with contextlib.suppress(FileNotFoundError):
                (path / "env.json").unlink()
    finally:
        os.close(lock)
