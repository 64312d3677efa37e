"""What a run shows while it trains: a live line on a terminal, one line per task in a log, or nothing."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from fastplast.text import duration
from fastplast.training.loop import EpochDone, Event, Stopped, TaskDone, TaskStarted
from fastplast.training.setup import Setup


def show(setup: Setup, events: Iterator[Event], quiet: bool) -> Iterator[Event]:
    """Prints events as they pass.

    Args:
        setup: of the run.
        events: from ``training``.
        quiet: print nothing.

    Yields:
        The same events.
    """
    if quiet:
        yield from events
        return
    _print(_opening(setup))
    tally = _Tally(setup)
    if sys.stdout.isatty():
        yield from _live(tally, events)
    else:
        yield from _lines(tally, events)


def aside(text: str) -> None:
    """Prints progress that is no part of a command's result, to standard error.

    Args:
        text: a line.
    """
    print(text, file=sys.stderr, flush=True)


def _print(text: str) -> None:
    print(text, flush=True)


def _opening(setup: Setup) -> str:
    e, group = setup.experiment, setup.group
    notice = ""
    if setup.embedded:
        notice = f"Data: {setup.source}. All of it: fastplast data fetch {e.dataset}\n"
    return notice + (
        f"{e.benchmark}: {len(group.members)} x {group.network.name} ({group.layout.count:,} parameters, "
        f"{group.network.activation}), {e.tasks} tasks x {e.epochs * e.steps_per_epoch():,} updates, "
        f"engine {setup.engine.name} on {setup.engine.device}\n{e.out}"
        + (f"\n{setup.engine.notice}" if setup.engine.notice else "")
    )


class _Tally:
    """What has passed, for rates and remaining time."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.begun = setup, time.monotonic()
        self.first_updates: int | None = None
        self.updates, self.task, self.epoch, self.diverged = 0, 0, 0, 0
        self.train_seconds, self.task_seconds, self.measure_seconds = 0.0, 0.0, 0.0
        self.tasks_measured, self.tasks_ended = 0, 0
        self.start: dict[str, Any] = {}
        self.error = math.nan

    def see(self, event: Event) -> None:
        e = self.setup.experiment
        per_task = e.epochs * e.steps_per_epoch()
        if isinstance(event, TaskStarted):
            self.start = event.columns
            if event.task * per_task >= self.updates:  # none of its epochs was done meanwhile
                self.task, self.epoch = event.task, 0
                self.updates, self.tasks_ended, self.error = event.task * per_task, event.task, math.nan
        elif isinstance(event, EpochDone):
            if self.first_updates is None:
                self.first_updates = event.updates - e.steps_per_epoch()
            if event.task != self.task:
                self.start, self.tasks_ended = {}, event.task
            self.task, self.epoch, self.diverged = event.task, event.epoch + 1, event.diverged
            self.updates, self.error, self.task_seconds = event.updates, event.error, event.seconds
        elif isinstance(event, TaskDone):
            self.train_seconds += event.train_seconds
            self.task_seconds = 0.0
            self.measure_seconds += event.measure_seconds
            self.tasks_measured += 1
            self.tasks_ended = event.task + 1
            self.error = _mean(event.columns.get("error"))

    @property
    def rate(self) -> float:
        """Member-updates per second of training."""
        seconds = self.train_seconds + self.task_seconds
        done = self.updates - (self.first_updates or 0)
        return done * len(self.setup.group.members) / seconds if seconds else math.nan

    @property
    def remaining(self) -> float:
        """Seconds, training and measuring."""
        e = self.setup.experiment
        left = (self.setup.updates - self.updates) * len(self.setup.group.members) / self.rate
        measured = self.measure_seconds / self.tasks_measured if self.tasks_measured else 0.0
        return left + measured * ((e.tasks or 0) - self.tasks_ended)

    def summary(self) -> str:
        parts = []
        start_error, srank = _mean(self.start.get("error")), self.start.get("hessian_srank")
        if not math.isnan(self.error):
            parts.append(f"error {self.error:.4f}")
        if not math.isnan(start_error):
            parts.append(f"(start {start_error:.4f})")
        if srank is not None:
            parts.append(f" srank {_median(srank):.0f}")
        parts = [" ".join(parts)]
        if not math.isnan(self.rate):
            parts.append(f"{self.rate:,.0f} updates/s")
        if math.isfinite(self.remaining) and self.remaining > 0:
            parts.append(f"{duration(self.remaining)} left")
        if self.diverged:
            parts.append(f"{self.diverged} diverged")
        return "  ".join(parts)


def _known(values: Any) -> list[float]:
    return [v for v in values or [] if v is not None and math.isfinite(v)]


def _mean(values: Any) -> float:
    known = _known(values)
    return statistics.fmean(known) if known else math.nan


def _median(values: Any) -> float:
    known = _known(values)
    return statistics.median(known) if known else math.nan


def _lines(tally: _Tally, events: Iterator[Event]) -> Iterator[Event]:
    total = tally.setup.experiment.tasks
    for event in events:
        tally.see(event)
        if isinstance(event, TaskDone):
            _print(f"task {event.task + 1}/{total}  {tally.summary()}")
        yield event
        _close(tally, event)
    _closing(tally)


def _live(tally: _Tally, events: Iterator[Event]) -> Iterator[Event]:
    from rich.progress import BarColumn, Progress, TextColumn

    e = tally.setup.experiment
    columns = (TextColumn("task {task.fields[now]}"), BarColumn(bar_width=24), TextColumn("{task.description}"))
    with Progress(*columns, refresh_per_second=4) as progress:
        bar = progress.add_task("measuring", total=tally.setup.updates, now=f"1/{e.tasks}")
        for event in events:
            tally.see(event)
            now = f"{tally.task + 1}/{e.tasks} epoch {tally.epoch}/{e.epochs}"
            progress.update(bar, completed=tally.updates, description=tally.summary(), now=now)
            if isinstance(event, TaskDone):
                progress.console.print(f"task {event.task + 1}/{e.tasks}  {tally.summary()}", highlight=False)
            yield event
            _close(tally, event)
    _closing(tally)


def _close(tally: _Tally, event: Event) -> None:
    if isinstance(event, Stopped):
        out = tally.setup.experiment.out
        _print(f"Stopped in task {event.task + 1} after {event.epoch} epochs. Go on with: fastplast resume {out}")


def _closing(tally: _Tally) -> None:
    seconds = time.monotonic() - tally.begun
    if tally.tasks_measured:
        out = tally.setup.experiment.out
        _print(
            f"{duration(seconds)}: {tally.rate:,.0f} updates/s in training, "
            f"{duration(tally.measure_seconds)} of measuring. Figure: fastplast plot {out}"
        )
