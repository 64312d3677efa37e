"""A run in TensorBoard or Weights & Biases while it trains.

``watch`` passes the trainer's events on and writes what they announce: at a task's start and end everything that was
measured, read from the run's own files, and after every epoch the online loss. The run is the same bits with it and
without it. After a resume no point is there twice, and none that was measured is missing.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from fastplast.config import ConfigError
from fastplast.drawing.settings import Setting, settings_of
from fastplast.runs.files import config_digest
from fastplast.runs.paths import SHARDS
from fastplast.runs.run import Run
from fastplast.runs.tables import measured, read_part
from fastplast.training.loop import EpochDone, Event, TaskDone, TaskStarted
from fastplast.training.setup import Setup, describe

MOST_MEMBERS = 32  # whose own values are written beside the means
ONLINE = "online"


@dataclass(frozen=True)
class Views:
    """Where a run is to be seen.

    Attributes:
        tensorboard: directory of event files; None for none.
        wandb: project of Weights & Biases; None for none.
    """

    tensorboard: str | None = None
    wandb: str | None = None


class Sink(Protocol):
    """What takes points.

    Attributes:
        parts: parts of the metrics that it has from an earlier process and takes no more; two a task.
        updates: as many updates of a member had been made at its last epoch from an earlier process.
    """

    parts: int
    updates: int

    def measured(self, task: int, when: str, series: dict[str, dict[str, float]]) -> None:
        """Takes a part: name of the setting or member to column to value."""
        ...

    def trained(self, updates: int, values: dict[str, float]) -> None:
        """Takes an epoch."""
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


def check(views: Views) -> None:
    """Makes sure, before anything is trained, that everything needed is there.

    Args:
        views: that are asked for.

    Raises:
        ImportError: if a package is missing; the text says how to install it.
        ConfigError: if the directory cannot be written.
    """
    if views.tensorboard is not None:
        _module("tensorboard", "--tensorboard")
        try:
            Path(views.tensorboard).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--tensorboard must be a directory: got {views.tensorboard} ({error.strerror}). Choose another one."
            ) from None
    if views.wandb is not None:
        _module("wandb", "--wandb")


def _module(name: str, flag: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{flag} needs the package {name}: got {error}. Install it with `pip install {name}`."
        ) from error


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

    settings, _ = settings_of(pandas.DataFrame(describe(setup)).assign(run=0), [""])
    run, sinks, told = Run(setup.experiment.out or "."), [], 0
    try:
        for kind, target in ((_TensorBoard, views.tensorboard), (_Wandb, views.wandb)):
            if target is not None:
                sinks.append(_opened(kind, target, run, setup, settings))
        for event in events:
            if isinstance(event, EpochDone):
                told = _tell_parts(run, settings, sinks, told, 2 * event.task + 1)
                values = {"loss": event.loss, "error": event.error, "diverged": float(event.diverged)}
                for sink in sinks.copy():
                    if event.updates > sink.updates:
                        _try(sinks, sink, event.updates, values)
            elif isinstance(event, (TaskStarted, TaskDone)):
                told = _tell_parts(run, settings, sinks, told, 2 * event.task + 1 + isinstance(event, TaskDone))
            yield event
        if run.is_finished:
            _tell_parts(run, settings, sinks, told, 2 * (setup.experiment.tasks or 0))
    finally:
        for sink in sinks:
            with contextlib.suppress(Exception):  # what it could not write, a resume with the view writes
                sink.close()


def _opened(kind: Any, target: str, run: Run, setup: Setup, settings: Sequence[Setting]) -> Sink:
    try:
        return kind(target, run, setup, settings)
    except Exception as error:
        raise RuntimeError(
            f"The live view {kind.__name__.strip('_')} could not start: {type(error).__name__}: {error}. Nothing was "
            f"trained; go on with `fastplast resume {run.path}`, with or without the view."
        ) from error


def _tell_parts(run: Run, settings: Sequence[Setting], sinks: list[Sink], told: int, until: int) -> int:
    """Writes the parts from number `told` to `until`; of a run that goes on, first those of the processes before."""
    for number in range(told, until):
        task, when = number // 2, ("start", "end")[number % 2]
        path = run.path / "metrics" / f"part-{task:05d}-{when}.parquet"
        if not path.exists():
            return number  # it is measured beside training, and told when it is there
        wanting = [sink for sink in sinks if number >= sink.parts]
        if not wanting:
            continue
        series = _series(read_part(path), settings)
        for sink in wanting:
            _try(sinks, sink, task, when, series)
    return max(told, until)


def _try(sinks: list[Sink], sink: Sink, *what: Any) -> None:
    try:
        (sink.trained if len(what) == 2 else sink.measured)(*what)
    except Exception as error:
        sinks.remove(sink)
        warnings.warn(
            f"The live view {type(sink).__name__.strip('_')} failed and is dropped ({type(error).__name__}: {error}). "
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
        label = _label(setting)
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


def _label(setting: Setting) -> str:
    return setting.label.replace("/", "_") or "mean"


def _name_of(run: Run) -> str:
    """Of a shard the sweep's name too."""
    path = run.path.resolve()
    return f"{path.parent.parent.name}/{path.name}" if path.parent.name == SHARDS else path.name


class _TensorBoard:
    """Event files: a TensorBoard run for each setting, for each of some members, and for the epochs.

    A process that goes on with a run writes everything that was measured anew, behind a mark that makes readers forget
    what came before; of epochs, from where training goes on.
    """

    parts = updates = 0

    def __init__(self, directory: str, run: Run, setup: Setup, settings: Sequence[Setting]) -> None:
        self.place = Path(directory) / _name_of(run)
        self.writers: dict[str, Any] = {}
        about = self._writer("about", 0)
        about.add_text("config", f"```json\n{(run.path / 'config.json').read_text()}```")
        about.flush()
        described = describe(setup)
        for setting in settings:
            member = setting.members[0][1]
            values = {name: column[member] for name, column in described.items() if name not in ("member", "seed")}
            self._hyperparameters(_label(setting), values | {"seeds": len(setting.members)})

    def _writer(self, series: str, purge: int) -> Any:
        if series not in self.writers:
            from torch.utils.tensorboard import SummaryWriter

            self.writers[series] = SummaryWriter(str(self.place / series), purge_step=purge)
        return self.writers[series]

    def _hyperparameters(self, label: str, values: dict[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        known = {k: v for k, v in values.items() if isinstance(v, (bool, int, float, str))}
        for summary in hparams(known, {"end/error": 0.0, "start/hessian_srank": 0.0}):
            self._writer(label, 0).file_writer.add_summary(summary)

    def measured(self, task: int, when: str, series: dict[str, dict[str, float]]) -> None:
        for label, values in series.items():
            writer = self._writer(label, 0)
            for name, value in values.items():
                writer.add_scalar(f"{when}/{name}", value, task)
            writer.flush()

    def trained(self, updates: int, values: dict[str, float]) -> None:
        writer = self._writer(ONLINE, updates)
        for name, value in values.items():
            if math.isfinite(value):
                writer.add_scalar(f"{ONLINE}/{name}", value, updates)
        writer.flush()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class _Wandb:
    """A run of Weights & Biases, the same one after a resume, which goes on behind the last points that it holds.

    Offline there is nobody to ask what it holds: every process then makes a run of its own.
    """

    def __init__(self, project: str, run: Run, setup: Setup, settings: Sequence[Setting]) -> None:
        wandb = _module("wandb", "--wandb")
        offline = os.environ.get("WANDB_MODE") in ("offline", "dryrun")
        identity = config_digest([run.config, run.env["started"], str(run.path.resolve())])[:16]
        name = _name_of(run)
        self.alone = len(settings) == 1
        self.run = wandb.init(
            project=project,
            name=name.rsplit("/", 1)[-1],
            group=name.split("/")[0] if "/" in name else None,
            id=None if offline else identity,
            resume=None if offline else "allow",
            config=setup.experiment.to_dict(),
        )
        for axis, pattern in (("task", "start/*"), ("task", "end/*"), ("updates", f"{ONLINE}/*")):
            self.run.define_metric(axis)
            self.run.define_metric(pattern, step_metric=axis)
        self.parts = int(self.run.summary.get("parts", 0))
        self.updates = int(self.run.summary.get("updates", 0))

    def measured(self, task: int, when: str, series: dict[str, dict[str, float]]) -> None:
        values: dict[str, float] = {"task": task, "parts": 2 * task + 1 + (when == "end")}
        for label, columns in series.items():
            label = label.removeprefix("mean").removeprefix("/") if self.alone else label
            values |= {f"{when}/{name}" + (f"/{label}" if label else ""): value for name, value in columns.items()}
        self.run.log(values)

    def trained(self, updates: int, values: dict[str, float]) -> None:
        known = {f"{ONLINE}/{name}": value for name, value in values.items() if math.isfinite(value)}
        self.run.log(known | {"updates": updates})

    def close(self) -> None:
        self.run.finish()
