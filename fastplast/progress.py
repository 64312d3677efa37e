"""What a run shows while it trains: a live line on a terminal, one line per task in a log, or nothing."""

from __future__ import annotations

import importlib.util
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator
from typing import Any

from fastplast.config import Experiment
from fastplast.runs.status import mean, median
from fastplast.text import duration, fitted
from fastplast.training.loop import EpochDone, Event, Stopped, TaskDone, TaskStarted
from fastplast.training.setup import Setup


def show(
    setup: Setup, events: Iterator[Event], quiet: bool, again: str | None = None, is_part: bool = False
) -> Iterator[Event]:
    """Prints events as they pass.

    Args:
        setup: of the run.
        events: from ``training``.
        quiet: print nothing.
        again: what goes on with all of it after a stop; resuming the run if None.
        is_part: whether it is one of several runs, whose plot is not suggested.

    Yields:
        The same events.
    """
    if quiet:
        yield from events
        return
    _print(fitted(_describe_start(setup), indent=2))
    tally = _Tally(setup)
    for event in (_show_bar if _is_live() else _print_tasks)(tally, events):
        yield event
        if isinstance(event, Stopped):
            _print(
                f"Stopped in task {event.task + 1} after {event.epoch} epochs. "
                f"Go on with: {again or f'fastplast resume {shlex.quote(str(setup.experiment.out))}'}"
            )
    if tally.tasks_measured:
        _print(_describe_end(tally, is_part))


def _is_live() -> bool:
    """Whether a bar can be shown: on a terminal, and in a notebook that has widgets."""
    if sys.stdout is not None and sys.stdout.isatty():
        return True
    return "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None


def _print(text: str) -> None:
    print(text, flush=True)


def _describe_start(setup: Setup) -> str:
    e, group = setup.experiment, setup.group
    notice = ""
    if setup.dataset.is_embedded:
        notice = f"Data: {setup.dataset.source}. All of it: fastplast data fetch {e.dataset}\n"
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
        # In the first epoch of a process kernels are compiled, or loaded: its time says nothing of the others.
        self.first: EpochDone | None = None
        self.has_rate = False
        self.updates, self.task, self.epoch, self.diverged = 0, 0, 0, 0
        self.train_seconds, self.task_seconds, self.measure_seconds = 0.0, 0.0, 0.0
        self.tasks_measured, self.tasks_ended = 0, 0
        self.start: dict[str, Any] = {}
        self.error: float | None = None

    def count(self, event: Event) -> None:
        e = self.setup.experiment
        per_task = e.epochs * e.steps_per_epoch()
        if isinstance(event, TaskStarted):
            self.start = event.columns
            if event.task * per_task >= self.updates:  # none of its epochs was done meanwhile
                self.task, self.epoch = event.task, 0
                self.updates, self.tasks_ended, self.error = event.task * per_task, event.task, None
        elif isinstance(event, EpochDone):
            self.has_rate = self.first is not None
            self.first = self.first or event
            if event.task != self.task:
                self.start, self.tasks_ended = {}, event.task
            self.task, self.epoch, self.diverged = event.task, event.epoch + 1, event.diverged
            self.updates, self.error, self.task_seconds = event.updates, mean([event.error]), event.seconds
        elif isinstance(event, TaskDone):
            self.train_seconds += event.train_seconds
            self.task_seconds = 0.0
            self.measure_seconds += event.measure_seconds
            self.tasks_measured += 1
            self.tasks_ended = event.task + 1
            columns: dict[str, Any] = event.columns
            self.error = mean(columns.get("error") or ())

    @property
    def rate(self) -> float:
        """Member-updates per second of training, the first epoch left out unless it is the only one."""
        if self.first is None:
            return math.nan
        done, seconds = self.setup.experiment.steps_per_epoch(), self.first.seconds
        if self.has_rate:
            done = self.updates - self.first.updates
            seconds = self.train_seconds + self.task_seconds - self.first.seconds
        return done * len(self.setup.group.members) / seconds if seconds > 0 else math.nan

    @property
    def remaining(self) -> float:
        """Seconds, training and measuring."""
        e = self.setup.experiment
        left = (self.setup.updates - self.updates) * len(self.setup.group.members) / self.rate
        measured = self.measure_seconds / self.tasks_measured if self.tasks_measured else 0.0
        return left + measured * ((e.tasks or 0) - self.tasks_ended)

    def describe(self, is_live: bool = False) -> str:
        """The state in words; for the live line, whose end a narrow terminal cuts, shorter and with the rate last."""
        parts = []
        start_error, srank = mean(self.start.get("error") or ()), median(self.start.get("hessian_srank") or ())
        if self.error is not None:
            parts.append(f"error {self.error:.4f}")
        if start_error is not None and not is_live:
            parts.append(f"(start {start_error:.4f})")
        if srank is not None:
            parts.append(f" srank {srank:.0f}")
        parts, rate = [" ".join(parts)], []
        if self.has_rate and not math.isnan(self.rate):
            rate = [f"{self.rate:,.0f} updates/s"]
        parts += [] if is_live else rate
        if self.has_rate and math.isfinite(self.remaining) and self.remaining > 0:
            parts.append(f"{duration(self.remaining)} left")
        if self.diverged:
            parts.append(f"{self.diverged} diverged")
        return "  ".join(parts + rate if is_live else parts)


def _print_tasks(tally: _Tally, events: Iterator[Event]) -> Iterator[Event]:
    total = tally.setup.experiment.tasks
    for event in events:
        tally.count(event)
        if isinstance(event, TaskDone):
            _print(f"task {event.task + 1}/{total}  {tally.describe()}")
        yield event


def _show_bar(tally: _Tally, events: Iterator[Event]) -> Iterator[Event]:
    from rich.progress import BarColumn, Progress, TextColumn

    e = tally.setup.experiment
    columns = (TextColumn("task {task.fields[now]}"), BarColumn(bar_width=24), TextColumn("{task.description}"))
    with Progress(*columns, refresh_per_second=4) as progress:
        text = "first epoch: kernels are compiled or loaded"
        bar = progress.add_task(text, total=tally.setup.updates, now=f"1/{e.tasks}")
        for event in events:
            tally.count(event)
            now = f"{tally.task + 1}/{e.tasks} epoch {tally.epoch}/{e.epochs}"
            description = tally.describe(is_live=True) if tally.first else text
            progress.update(bar, completed=tally.updates, description=description, now=now)
            if isinstance(event, TaskDone):
                progress.console.print(f"task {event.task + 1}/{e.tasks}  {tally.describe()}", highlight=False)
            yield event


def _describe_end(tally: _Tally, is_part: bool) -> str:
    e = tally.setup.experiment
    figure = "" if is_part else f" Figure: {plot_command(str(e.out), e)}"
    return (
        f"{duration(time.monotonic() - tally.begun)}: {tally.rate:,.0f} updates/s in training, "
        f"{duration(tally.measure_seconds)} of measuring.{figure}"
    )


def plot_command(path: str | os.PathLike, e: Experiment) -> str:
    """The command that draws a run or a sweep.

    Args:
        path: of it.
        e: what is drawn; by default the error and the stable rank.

    Returns:
        The command, to be pasted.
    """
    columns = "" if e.srank != "off" else " --columns error"
    if e.loss != "cross_entropy":
        columns = " --columns online_loss" + ("" if e.srank == "off" else " hessian_srank")
    return f"fastplast plot {shlex.quote(os.fspath(path))}{columns}"
