"""How far a run or a sweep is, from its files alone: for another terminal, and without torch.

The lock of a run says whether a process trains it, ``progress.json`` how far that process is, metrics and timings what
was measured. Files are replaced whole, so this works at any moment.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastplast.config import Experiment, with_known_names
from fastplast.runs.files import StoreError
from fastplast.runs.heartbeat import living_elsewhere
from fastplast.runs.manifest import task_of
from fastplast.runs.parquet import read_part
from fastplast.runs.paths import is_sweep, shard_paths
from fastplast.runs.reading import check_config, check_keys, read_json, reading
from fastplast.runs.run import Run

_POSITION = {"task": int, "epoch": int}
_RECENT = 5  # tasks that the time of a task is taken from


@dataclass(frozen=True)
class Status:
    """A run at one moment; None where something is not known yet.

    Attributes:
        path: of the run.
        state: ``training``, ``finished``, ``stopped`` (on request, after a checkpoint), ``died``, or of a shard whose
            files cannot be read ``damaged``.
        holder: the process that trains it.
        members: M.
        diverged: members frozen so far.
        task: number of the task in progress, from 0; of the last one if the run is finished.
        tasks: K.
        epoch: epochs of that task that are known to be done.
        epochs: of a task.
        rate: member-updates per second of training.
        seconds_left: training and measuring, were a run that has stopped to go on at the same pace.
        error: mean over members at the last task end.
        error_task: number of that task.
        srank: median stable rank of the Hessian over members at the last task start at which it was measured.
        srank_task: number of that task.
        bytes: of all files.
        sranks: what `srank` is the median of, one for each member with a value.
    """

    path: str
    state: str
    holder: str | None
    members: int
    diverged: int
    task: int
    tasks: int
    epoch: int
    epochs: int
    rate: float | None
    seconds_left: float | None
    error: float | None
    error_task: int | None
    srank: float | None
    srank_task: int | None
    bytes: int
    sranks: tuple[float, ...] = ()

    @property
    def share(self) -> float:
        """Of all epochs, those done."""
        return min((self.task + self.epoch / self.epochs) / self.tasks, 1.0)


def status(path: str | os.PathLike) -> Status | list[Status]:
    """Looks at a run, or at every shard of a sweep that has been begun.

    Args:
        path: run directory or sweep directory.

    Returns:
        Its status; of a sweep, those of its shards by name.

    Raises:
        FileNotFoundError: if it is neither; the text says what is there.
    """
    path = Path(path)
    if is_sweep(path):
        return [_of_shard(shard) for shard in shard_paths(path)]
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"path must be a run or a sweep: got {path}{_what_is_there(path)}")
    return _of_run(path)


def _of_shard(path: Path) -> Status:
    """Of one shard among many, which may be damaged: the others are told all the same."""
    try:
        return _of_run(path)
    except (OSError, ValueError):
        nothing = dict.fromkeys(("holder", "rate", "seconds_left", "error", "error_task", "srank", "srank_task"))
        known = {"members": 0, "diverged": 0, "task": 0, "tasks": 1, "epoch": 0, "epochs": 1, "bytes": _bytes(path)}
        return Status(str(path), "damaged", **known, **nothing)


def _what_is_there(path: Path) -> str:
    if not path.exists():
        return ", which does not exist. Runs are by default made in runs/."
    if not path.is_dir():
        return ", a file. Give the directory of the run."
    if lock_holder(path):
        return ", where a process is just making one. Ask again in a second."
    runs = [str(config.parent) for config in sorted(path.glob("*/config.json"))]
    runs += [str(shards.parent) for shards in sorted(path.glob("*/shards"))]
    if runs:
        return f". Runs in it: {', '.join(runs[:5])}{', ...' if len(runs) > 5 else ''}."
    names = sorted(os.listdir(path))
    return f", which holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}." if names else ", which is empty."


def lock_holder(path: Path) -> str | None:
    """Who writes a run now.

    The lock is asked for as one of many readers, for an instant in which a writer that starts only waits. Of one on
    another machine its last sign of life tells too.

    Args:
        path: run directory.

    Returns:
        For example ``process 4711 on some-host``; None if nobody does, or the file system has no locks.
    """
    import fcntl

    try:
        with open(path / ".lock", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(200) or "a process that is just starting"
    except OSError:
        pass
    return living_elsewhere(path / ".lock")


def _of_run(path: Path) -> Status:
    holder = lock_holder(path)  # before the rest: what dies meanwhile is reported as what it was
    run = Run(path)
    config = run.config
    check_config(config, path / "config.json")
    listed = config.pop("member_list", None)
    if listed is not None and not isinstance(listed, list):
        raise StoreError(f"{path / 'config.json'} is damaged: member_list must be a list.")
    e = Experiment.from_dict(with_known_names(config), str(path / "config.json"))
    finished = run.is_finished
    progress = _progress(path, holder is not None)
    state = "finished" if finished else "training" if holder else "stopped" if progress.get("stopped") else "died"
    members, tasks = len(e.members() if listed is None else listed), e.tasks or 1
    task, epoch = (tasks, 0) if finished else (progress["task"], progress["epoch"])  # (tasks, 0): all are done
    task_seconds, rate = _pace(run, e, members)
    rate_now = progress.get("rate") if isinstance(progress.get("rate"), float) else None
    left = None
    if finished:
        left = 0.0
    elif task_seconds is not None:
        left = (tasks - task - epoch / e.epochs) * task_seconds
    elif rate_now:
        left = ((tasks - task) * e.epochs - epoch) * e.steps_per_epoch() * members / rate_now
    if left and state == "training" and "time" in progress:
        left = max(left - _seconds_since(progress["time"]), 0.0)
    ends, starts = (sorted((path / "metrics").glob(f"part-*-{when}.parquet")) for when in ("end", "start"))
    last = read_part(ends[-1]) if ends else None
    sranks, srank_task = _last_sranks(starts, e)
    return Status(
        path=str(path),
        state=state,
        holder=holder if state == "training" else None,
        members=members,
        diverged=_diverged(starts, ends),
        task=min(task, tasks - 1),
        tasks=tasks,
        epoch=e.epochs if task == tasks else epoch,
        epochs=e.epochs,
        rate=rate_now or rate,
        seconds_left=left,
        error=mean(_column(last, "error", ends[-1])) if last is not None and "error" in last.column_names else None,
        error_task=None if last is None else _task_of(ends[-1]),
        srank=median(sranks),
        srank_task=srank_task,
        bytes=_bytes(path),
        sranks=sranks,
    )


def _progress(path: Path, is_training: bool) -> dict[str, Any]:
    """Where training is: of a run that nobody trains, where it would go on."""
    kept: dict[str, Any] = {"task": 0, "epoch": 0}
    checkpoint = path / "checkpoint" / "checkpoint.json"
    if checkpoint.exists():
        position = read_json(checkpoint, {"position": dict})["position"]
        with reading(checkpoint):
            kept = check_keys(position, _POSITION)
    told = kept
    with contextlib.suppress(StoreError):  # without it, or where it is damaged, training is where it would go on
        told = read_json(path / "progress.json", _POSITION)
    further = (told["task"], told["epoch"]) >= (kept["task"], kept["epoch"])
    return told if further and (is_training or told.get("stopped")) else kept


def _pace(run: Run, e: Experiment, members: int) -> tuple[float | None, float | None]:
    """Seconds of a task, and member-updates per second of training, of the last tasks."""
    records = run.timings()
    if records.empty:
        return None, None
    recent = records.tail(_RECENT)
    with reading(run.path / "timings.jsonl"):
        train, measure = (float(recent[name].median()) for name in ("train_seconds", "measure_seconds"))
    rate = members * e.epochs * e.steps_per_epoch() / train if train > 0 else None
    return train + measure, rate


def _seconds_since(time: Any) -> float:
    try:
        return max((datetime.now(timezone.utc) - datetime.fromisoformat(time)).total_seconds(), 0.0)
    except (TypeError, ValueError):  # damaged
        return 0.0


def _last_sranks(starts: Sequence[Path], e: Experiment) -> tuple[tuple[float, ...], int | None]:
    for part in reversed(starts[-e.srank_every :] if e.srank != "off" else ()):
        table = read_part(part)
        if "hessian_srank" in table.column_names:
            return tuple(finite(_column(table, "hessian_srank", part))), _task_of(part)
    return (), None


def _diverged(starts: Sequence[Path], ends: Sequence[Path]) -> int:
    parts = sorted([*starts[-1:], *ends[-1:]], key=lambda part: (_task_of(part), "start" in part.name))
    later = [_column(read_part(part), "diverged", part) for part in parts]
    return max((sum(map(bool, flags)) for flags in later), default=0)


def _column(table: Any, name: str, part: Path) -> list[Any]:
    with reading(part):
        return table[name].to_pylist()


def _task_of(part: Path) -> int:
    return task_of(part.name)


def finite(values: Iterable[float | None]) -> list[float]:
    """The numbers among what members have: neither missing nor infinite."""
    return [value for value in values if isinstance(value, (int, float)) and math.isfinite(value)]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the finite values; None if there is none."""
    known = finite(values)
    return statistics.fmean(known) if known else None


def median(values: Iterable[float | None]) -> float | None:
    """The median of the finite values; None if there is none."""
    known = finite(values)
    return float(statistics.median(known)) if known else None


def _bytes(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):  # replaced since
                total += os.stat(os.path.join(folder, name)).st_size
    return total
