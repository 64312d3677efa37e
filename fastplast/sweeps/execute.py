"""Carries out a plan: shard after shard, each an ordinary run that is started or resumed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fastplast.runs.files import take_lock
from fastplast.runs.paths import SHARDS
from fastplast.sweeps.plan import Shard, SweepPlan
from fastplast.sweeps.request import add_request
from fastplast.training.loop import Event, Stopped
from fastplast.training.setup import Setup
from fastplast.training.start import proceed, start


def execute(
    plan: SweepPlan, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Shard, Setup, Iterator[Event]]]:
    """Makes or resumes the shards of a plan, one after another; each trains as its events are consumed.

    Args:
        plan: what to do.
        stop: asked after every epoch; True ends training after a checkpoint, and the sweep with it.

    Yields:
        Shard, its setup, and its events, to be consumed before the next.
    """
    (plan.directory / SHARDS).mkdir(parents=True, exist_ok=True)
    add_request(plan.directory, plan.grid)
    for shard in plan.shards:
        dataset = plan.datasets.get(shard.experiment.dataset)
        if shard.is_begun:
            setup, events = proceed(shard.path, dataset=dataset, stop=stop)
        else:
            _remove_leftovers(shard.path)
            setup, events = start(shard.experiment, dataset=dataset, stop=stop)
        stopped = False

        def noting_a_stop(events: Iterator[Event] = events) -> Iterator[Event]:
            nonlocal stopped
            for event in events:
                stopped = isinstance(event, Stopped)
                yield event

        yield shard, setup, noting_a_stop()
        if stopped or stop():
            return


def _remove_leftovers(path: Path) -> None:
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
