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
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastplast.config import Experiment, with_known_names
from fastplast.runs.files import read_json
from fastplast.runs.paths import is_sweep, shard_paths
from fastplast.runs.run import Run
from fastplast.runs.tables import read_part
from fastplast.text import duration, size

_RECENT = 5  # tasks that the time of a task is taken from


@dataclass(frozen=True)
class Status:
    """A run at one moment; None where something is not known yet.

    Attributes:
        path: of the run.
        state: ``training``, ``finished``, ``stopped`` (on request, after a checkpoint) or ``died``.
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
        return [_of_run(shard) for shard in shard_paths(path)]
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"path must be a run or a sweep: got {path}{_what_is_there(path)}")
    return _of_run(path)


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

    The lock is asked for as one of many readers, for an instant in which a writer that starts only waits.

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
    return None


def _of_run(path: Path) -> Status:
    holder = lock_holder(path)  # before the rest: what dies meanwhile is reported as what it was
    run = Run(path)
    config = run.config
    listed = config.pop("member_list", None)
    e = Experiment.from_dict(with_known_names(config), str(path / "config.json"))
    finished = run.is_finished
    progress = _progress(path, holder is not None)
    state = "finished" if finished else "training" if holder else "stopped" if progress.get("stopped") else "died"
    members, tasks = len(e.members() if listed is None else listed), e.tasks or 1
    task, epoch = (tasks, 0) if finished else (progress["task"], progress["epoch"])  # (tasks, 0): all are done
    task_seconds, rate = _pace(run, e, members)
    left = None
    if finished:
        left = 0.0
    elif task_seconds is not None:
        left = (tasks - task - epoch / e.epochs) * task_seconds
    elif progress.get("rate"):
        left = ((tasks - task) * e.epochs - epoch) * e.steps_per_epoch() * members / progress["rate"]
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
        rate=progress.get("rate") or rate,
        seconds_left=left,
        error=mean(last["error"].to_pylist()) if last is not None and "error" in last.column_names else None,
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
        kept = read_json(checkpoint)["position"]
    told = read_json(path / "progress.json") if (path / "progress.json").exists() else kept
    further = (told["task"], told["epoch"]) >= (kept["task"], kept["epoch"])
    return told if further and (is_training or told.get("stopped")) else kept


def _pace(run: Run, e: Experiment, members: int) -> tuple[float | None, float | None]:
    """Seconds of a task, and member-updates per second of training, of the last tasks."""
    records = run.timings()
    if records.empty:
        return None, None
    recent = records.tail(_RECENT)
    train = float(recent["train_seconds"].median())
    rate = members * e.epochs * e.steps_per_epoch() / train if train > 0 else None
    return train + float(recent["measure_seconds"].median()), rate


def _seconds_since(time: str) -> float:
    return max((datetime.now(timezone.utc) - datetime.fromisoformat(time)).total_seconds(), 0.0)


def _last_sranks(starts: Sequence[Path], e: Experiment) -> tuple[tuple[float, ...], int | None]:
    for part in reversed(starts[-e.srank_every :] if e.srank != "off" else ()):
        table = read_part(part)
        if "hessian_srank" in table.column_names:
            return tuple(finite(table["hessian_srank"].to_pylist())), _task_of(part)
    return (), None


def _diverged(starts: Sequence[Path], ends: Sequence[Path]) -> int:
    parts = sorted([*starts[-1:], *ends[-1:]], key=lambda part: (_task_of(part), "start" in part.name))
    later = [read_part(part)["diverged"].to_pylist() for part in parts]
    return max((sum(flags) for flags in later), default=0)


def _task_of(part: Path) -> int:
    return int(part.name.split("-")[1])


def finite(values: Iterable[float | None]) -> list[float]:
    """The numbers among what members have: neither missing nor infinite."""
    return [value for value in values if value is not None and math.isfinite(value)]


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


def as_json(found: Status | list[Status], path: str) -> dict[str, Any]:
    """The same for scripts.

    Args:
        found: from ``status``.
        path: what was asked for.

    Returns:
        JSON values: the fields of a run; of a sweep its ``path``, ``shards``, and ``total``.
    """
    if isinstance(found, Status):
        return _fields(found)
    return {"path": path, "shards": [_fields(shard) for shard in found], "total": _total(found)}


def _fields(found: Status) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if name != "sranks"}


def as_text(found: Status | list[Status], path: str) -> str:
    """The same for people.

    Args:
        found: from ``status``.
        path: what was asked for.

    Returns:
        Lines: what is known of a run, or a table of shards and their total.
    """
    return _run_lines(found) if isinstance(found, Status) else _sweep_lines(found, path)


def _run_lines(s: Status) -> str:
    go_on = f"; go on with: fastplast resume {s.path}" if s.state in ("stopped", "died") else ""
    done = f"all {s.tasks} tasks"
    if s.state != "finished":
        done = f"task {s.task + 1} of {s.tasks}, {s.epoch} of {s.epochs} epochs of it; {s.share:.1%} of all"
    left = None if s.seconds_left is None or s.state == "finished" else duration(s.seconds_left)
    rows = {
        "state": s.state + (f" ({s.holder})" if s.holder else "") + go_on,
        "progress": done,
        "rate": None if s.rate is None else f"{s.rate:,.0f} updates/s",
        "left": left,
        "error": None if s.error is None else f"{s.error:.4f} at the end of task {(s.error_task or 0) + 1}",
        "srank": None
        if s.srank is None
        else f"{s.srank:.1f}, median over members, at the start of task {(s.srank_task or 0) + 1}",
        "diverged": f"{s.diverged} of {s.members} members",
        "disk": size(s.bytes),
        "place": str(Path(s.path).resolve()),
    }
    return "\n".join(f"{name:9} {text}" for name, text in rows.items() if text is not None)


def _sweep_lines(shards: list[Status], path: str) -> str:
    total = _total(shards)
    header = ("shard", "state", "members", "task", "error", "srank", "diverged", "left", "disk")
    rows = [header, *(_cells(Path(s.path).name, asdict(s)) for s in shards), _cells("total", total)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
    states = ", ".join(f"{count} {state}" for state, count in total["states"].items()) or "none begun"
    return "\n".join([*lines, f"{len(shards)} shards: {states}; {Path(path).resolve()}"])


def _cells(name: str, s: dict[str, Any]) -> tuple[str, ...]:
    task = f"{s['task'] + (s.get('state') != 'total')}/{s['tasks']}"
    left = duration(s["seconds_left"]) if s["seconds_left"] else ""
    error = "" if s["error"] is None else f"{s['error']:.4f}"
    srank = "" if s["srank"] is None else f"{s['srank']:.1f}"
    state = "" if s["state"] == "total" else s["state"]
    return name, state, f"{s['members']:,}", task, error, srank, str(s["diverged"]), left, size(s["bytes"])


def _total(shards: list[Status]) -> dict[str, Any]:
    """Sums, the mean error and the median srank over members that have one; time left as if one process did all."""
    states = [s.state for s in shards]
    left = [s.seconds_left for s in shards]
    errors = [(s.error, s.members) for s in shards if s.error is not None]
    counted = sum(members for _, members in errors)
    return {
        "state": "total",
        "states": {state: states.count(state) for state in sorted(set(states))},
        "members": sum(s.members for s in shards),
        "diverged": sum(s.diverged for s in shards),
        "task": sum(s.tasks if s.state == "finished" else s.task for s in shards),
        "tasks": sum(s.tasks for s in shards),
        "error": sum(error * members for error, members in errors) / counted if errors else None,
        "srank": median([srank for s in shards for srank in s.sranks]),
        "seconds_left": None if None in left else sum(value for value in left if value is not None),
        "bytes": sum(s.bytes for s in shards),
    }
