"""A run in TensorBoard or Weights & Biases while it trains.

``watch`` passes the trainer's events on and writes what they announce: at a task's start and end everything that was
measured, read from the run's own files, and after every epoch the online loss. The run is the same bits with it and
without it. After a resume no point is there twice, and none that was measured is missing.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastplast.config import ConfigError
from fastplast.drawing.settings import Setting, settings_of
from fastplast.runs.parquet import read_part
from fastplast.runs.run import Run, probe_name
from fastplast.runs.tables import measured
from fastplast.tracking.sink import Sink, import_package, label_of
from fastplast.tracking.tensorboard import TensorBoard
from fastplast.tracking.wandb import Wandb
from fastplast.training.loop import EpochDone, Event, TaskDone, TaskStarted
from fastplast.training.setup import Setup, member_columns

MOST_MEMBERS = 32  # whose own values are written beside the means


@dataclass(frozen=True)
class Views:
    """Where a run is to be seen.

    Attributes:
        tensorboard: directory of event files; None for none.
        wandb: project of Weights & Biases; None for none.
    """

    tensorboard: str | None = None
    wandb: str | None = None


def check(views: Views) -> None:
    """Makes sure, before anything is trained, that everything needed is there.

    Args:
        views: that are asked for.

    Raises:
        ImportError: if a package is missing; the text says how to install it.
        ConfigError: if the directory cannot be written.
    """
    if views.tensorboard is not None:
        import_package("tensorboard", "--tensorboard")
        try:
            Path(views.tensorboard).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--tensorboard must be a directory: got {views.tensorboard} ({error.strerror}). Choose another one."
            ) from None
    if views.wandb is not None:
        import_package("wandb", "--wandb")


def watch(setup: Setup, events: Iterator[Event], views: Views) -> Iterator[Event]:
    """Writes what events announce as they pass. A view that fails is dropped with a warning; training goes on.

    Args:
        setup: of the run.
        events: from ``training``.
        views: where to write; see ``check``.

    Yields:
        The same events.
    """
    if views == Views():
        yield from events
        return
    import pandas

    settings, _ = settings_of(pandas.DataFrame(member_columns(setup)).assign(run=0), [""])
    run, sinks, written = Run(setup.experiment.out or "."), [], 0  # parts of the metrics: two a task
    try:
        for kind, target in ((TensorBoard, views.tensorboard), (Wandb, views.wandb)):
            if target is not None:
                sinks.append(_open_sink(kind, target, run, setup, settings))
        for event in events:
            if isinstance(event, EpochDone):
                written = _write_parts(run, settings, sinks, written, 2 * event.task + 1)
                values = {"loss": event.loss, "error": event.error, "diverged": float(event.diverged)}
                for sink in sinks.copy():
                    if event.updates > sink.updates:
                        _write_or_drop(sinks, sink, sink.write_epoch, event.updates, values)
            elif isinstance(event, (TaskStarted, TaskDone)):
                until = 2 * event.task + 1 + isinstance(event, TaskDone)
                written = _write_parts(run, settings, sinks, written, until)
            yield event
        if run.is_finished:
            _write_parts(run, settings, sinks, written, 2 * (setup.experiment.tasks or 0))
    finally:
        for sink in sinks:
            with contextlib.suppress(Exception):  # what it could not write, a resume with the view writes
                sink.close()


def _open_sink(kind: Any, target: str, run: Run, setup: Setup, settings: Sequence[Setting]) -> Sink:
    try:
        return kind(target, run, setup, settings)
    except Exception as error:
        raise RuntimeError(
            f"The live view {kind.__name__} could not start: {type(error).__name__}: {error}. Nothing was "
            f"trained; go on with `fastplast resume {run.path}`, with or without the view."
        ) from error


def _write_parts(run: Run, settings: Sequence[Setting], sinks: list[Sink], written: int, until: int) -> int:
    """Writes the parts from number `written` to `until`; of a resumed run, first those of the processes before.

    Returns:
        The number of the first part that is not written.
    """
    for number in range(written, until):
        task, when = number // 2, ("start", "end")[number % 2]
        path = run.path / "metrics" / f"part-{probe_name(task, when)}.parquet"
        if not path.exists():
            return number  # it is measured while training goes on, and written when it is there
        lacking = [sink for sink in sinks if number >= sink.parts]
        series = _series(read_part(path), settings) if lacking else {}
        for sink in lacking:
            _write_or_drop(sinks, sink, sink.write_part, task, when, series)
    return max(written, until)


def _write_or_drop(sinks: list[Sink], sink: Sink, write: Callable[..., None], *points: Any) -> None:
    try:
        write(*points)
    except Exception as error:
        sinks.remove(sink)
        warnings.warn(
            f"The live view {type(sink).__name__} failed and is dropped ({type(error).__name__}: {error}). "
            "Training goes on; resume the run with the view to write all of it.",
            stacklevel=4,
        )


def _series(table: Any, settings: Sequence[Setting]) -> dict[str, dict[str, float]]:
    """Of a part as Arrow's table: means of settings and values of the first members, by name of series and column."""
    columns = {name: table[name].to_pylist() for name in measured(table)}
    seeds, place = table["seed"].to_pylist(), {m: i for i, m in enumerate(table["member"].to_pylist())}
    series: dict[str, dict[str, float]] = {}
    for setting in settings:
        rows = [place[member] for _, member in setting.members]
        label = label_of(setting)
        series[label] = _means(columns, rows)
        for row, (_, member) in zip(rows, setting.members):
            if member < MOST_MEMBERS:
                series[f"{label}/seed {seeds[row]}"] = _means(columns, [row])
    return series


def _means(columns: dict[str, list[Any]], rows: Sequence[int]) -> dict[str, float]:
    means = {}
    for name, values in columns.items():
        known = [values[row] for row in rows if isinstance(values[row], (bool, int, float))]
        known = [float(value) for value in known if math.isfinite(value)]
        if known:
            means[name] = statistics.fmean(known)
    return means
