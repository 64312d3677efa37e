"""Carries out a plan: shard after shard, each an ordinary run that is started or resumed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator

from fastplast.bounded import reason
from fastplast.runs.files import TRANSIENT, make_directory, take_lock
from fastplast.runs.ledger import Failure, Planned, add_plan, forget_failure, note_failure, read_failures
from fastplast.runs.paths import SHARDS
from fastplast.sweeps.plan import Shard, SweepPlan, halves_of
from fastplast.sweeps.request import add_request
from fastplast.training.loop import Event, Stopped
from fastplast.training.setup import Setup
from fastplast.training.start import proceed, start


def execute(
    plan: SweepPlan,
    stop: Callable[[], bool] = lambda: False,
    failed: list[tuple[Shard, Exception]] | None = None,
    retry_failed: bool = False,
) -> Iterator[tuple[Shard, Setup, Iterator[Event]]]:
    """Makes or resumes the shards of a plan, one after another; each trains as its events are consumed.

    Args:
        plan: what to do.
        stop: asked after every epoch; True ends training after a checkpoint, and the sweep with it.
        failed: takes the shards that fail, with their errors, and the sweep goes on; if None, an error ends it.
        retry_failed: whether shards that failed before are trained again.

    Yields:
        Shard, its setup, and its events, to be consumed before the next.
    """
    queue = deque(prepare_sweep(plan, retry_failed))
    while queue:
        shard = queue.popleft()
        outcome: list[Event | Exception] = []
        try:
            setup, events = _begin(plan, shard, stop)
            yield shard, setup, _noting(events, outcome)
            error = next((last for last in outcome if isinstance(last, Exception)), None)
        except Exception as raised:  # by what begins the shard: what trains it is in the outcome
            error = raised
        if error is not None:
            if smaller := halves_after(plan, shard, error):
                queue.extendleft(reversed(smaller))
                continue
            if failed is None:
                raise error
            failed.append((shard, error))
            note_failure(plan.directory, shard.path.name, failure_of(error))
            continue
        stopped = any(isinstance(last, Stopped) for last in outcome)
        if not stopped and outcome:
            forget_failure(plan.directory, shard.path.name)
        if stopped or stop():
            return


def prepare_sweep(plan: SweepPlan, retry_failed: bool) -> list[Shard]:
    """Writes what was asked of a sweep directory and what is planned in it.

    Args:
        plan: what to do.
        retry_failed: whether shards that failed before are trained again.

    Returns:
        The shards to train: without those that failed before, unless the reason may have gone.
    """
    if not (plan.directory / SHARDS).is_dir():
        make_directory(plan.directory / SHARDS)
    add_request(plan.directory, plan.grid)
    add_plan(plan.directory, {shard.path.name: planned(shard) for shard in plan.shards})
    failures = {} if retry_failed else read_failures(plan.directory)
    return [s for s in plan.shards if s.path.name not in failures or failures[s.path.name].is_transient]


def planned(shard: Shard) -> Planned:
    """What a plan says of a shard."""
    e = shard.experiment.resolved()
    members = len(e.members())
    return Planned(members, members * (e.tasks or 0) * e.epochs * e.steps_per_epoch())


def failure_of(error: Exception) -> Failure:
    """What is kept of an error."""
    return Failure(f"{type(error).__name__}: {reason(error)}", getattr(error, "errno", None) in TRANSIENT)


def _begin(plan: SweepPlan, shard: Shard, stop: Callable[[], bool]) -> tuple[Setup, Iterator[Event]]:
    dataset = plan.datasets.get(shard.experiment.dataset)
    if shard.is_begun:
        return proceed(shard.path, plan.network, dataset=dataset, stop=stop, tasks=shard.experiment.tasks)
    return start(shard.experiment, plan.network, dataset=dataset, stop=stop)


def _noting(events: Iterator[Event], outcome: list[Event | Exception]) -> Iterator[Event]:
    """The events of a shard; the last of them, and what its training raises, go into the outcome."""
    try:
        while (event := _next(events, outcome)) is not None:
            outcome[:] = [event]
            yield event
    finally:
        if isinstance(events, Generator):
            events.close()


def _next(events: Iterator[Event], outcome: list[Event | Exception]) -> Event | None:
    try:
        return next(events, None)
    except Exception as error:
        outcome.append(error)
        return None


def halves_after(plan: SweepPlan, shard: Shard, error: Exception) -> tuple[Shard, Shard] | None:
    """The two halves of a shard that does not fit in memory; its run, of which no task is finished, is removed.

    Args:
        plan: of the sweep.
        shard: that failed.
        error: with which.

    Returns:
        Two shards; None if the reason is another, or the shard has one member or a finished task.
    """
    if not is_out_of_memory(error) or any((shard.path / "metrics").glob("part-*-end.parquet")):
        return None
    halves = halves_of(shard, plan.directory)
    if halves is None:
        return None
    if shard.path.is_dir():
        with contextlib.suppress(OSError):
            lock = take_lock(shard.path)
            shutil.rmtree(shard.path)
            os.close(lock)
    add_plan(plan.directory, {half.path.name: planned(half) for half in halves}, in_place_of=shard.path.name)
    return halves


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory does not suffice."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )  # fmt: skip
