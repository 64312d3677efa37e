"""A plan on a cluster: each shard is a task of Ray, which starts a process that trains the shard as an ordinary run.

Files are the truth: Ray starts processes, and starts them elsewhere when a worker or a node dies; they go on from the
shard's last checkpoint. Nothing but a request and a short answer goes through Ray.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastplast.config import ConfigError
from fastplast.runs.ledger import Failure, forget_failure, note_failure
from fastplast.sweeps.child import Answer, Request
from fastplast.sweeps.execute import halves_after, prepare_sweep
from fastplast.sweeps.grid import as_group
from fastplast.sweeps.plan import Shard, SweepPlan

LOGS = "logs"
_MOST_DEATHS = 8  # of workers and nodes, for one shard
_MOST_TRIES = 20  # of a shard that fails for a reason that may go
_PAUSE = 5.0  # seconds before it is tried again
_FREE = 1.3  # memory that is asked for, to that which a plan says is needed
_PROGRAM_BYTES = 600 << 20  # that a process takes by itself
_TOLD = 30.0  # seconds for a shard to checkpoint after the sweep was asked to stop
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclasses.dataclass
class _Job:
    """A shard and how often it was tried; not before a time."""

    shard: Shard
    tries: int = 0
    after: float = 0.0


def address_of(text: str) -> str | None:
    """Reads ``--cluster``.

    Args:
        text: ``ray``, for the cluster that ``RAY_ADDRESS`` names or else one on this machine, or ``ray://HOST:PORT``.

    Returns:
        The address; None for the first.

    Raises:
        ConfigError: if it is neither, or Ray is not installed.
    """
    name, _, address = text.partition("://")
    if name != "ray" or (not address and text != "ray"):
        raise ConfigError(f"--cluster must be ray or ray://HOST:PORT: got {text!r}.")
    try:
        import ray  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError:
        raise ConfigError("--cluster needs the package ray: got none. Install it with `pip install ray`.") from None
    return address or None


def execute_on_cluster(
    plan: SweepPlan,
    address: str | None,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
    retry_failed: bool = False,
    store: str | None = None,
) -> None:
    """Trains the shards of a plan on a cluster; why a shard failed is kept, as ``read_failures`` has it.

    Args:
        plan: what to do.
        address: of the cluster, from ``address_of``.
        stop: asked every second; True ends the sweep once the shards in training have checkpoints.
        tell: takes a line for each shard that ended.
        retry_failed: whether shards that failed before are trained again.
        store: where the sweep is sent, if anywhere.
    """
    import ray  # pyright: ignore[reportMissingImports]

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where: dict[str, Any] = {"address": address}
    if address is None and "RAY_ADDRESS" not in os.environ:
        where |= {"include_dashboard": False, "object_store_memory": 200_000_000}
    if not ray.is_initialized():
        ray.init(namespace="fastplast", log_to_driver=False, **where)
    waiting = deque(_Job(shard) for shard in prepare_sweep(plan, retry_failed))
    total, done, flying = len(waiting), 0, {}
    while waiting or flying:
        if stop():
            for task in flying:
                ray.cancel(task)  # which the task passes on to its process
            ray.wait(list(flying), num_returns=len(flying), timeout=_TOLD) if flying else None
            return
        _submit(plan, waiting, flying, store)
        if not flying:
            time.sleep(1.0)
            continue
        ready, _ = ray.wait(list(flying), num_returns=1, timeout=1.0)
        for task in ready:
            job = flying.pop(task)
            try:
                answer: Answer = ray.get(task)
            except ray.exceptions.RayError as error:  # deaths beyond those that Ray itself tries again, and the like
                answer = _failed(f"{type(error).__name__}: {str(error)[:200]}", is_transient=True)
            more = _settle(plan, job, answer)
            waiting.extend(more)
            if not more:
                done += 1
            total += max(len(more) - 1, 0)
            name, said = job.shard.path.name, answer["error"] or "done"
            tell(f"shard {name}: {said}{', tried again' * bool(more)}; {done} of {total}")


def _submit(plan: SweepPlan, waiting: deque[_Job], flying: dict[Any, _Job], store: str | None) -> None:
    """Gives Ray as many shards as it has room for, and as many again."""
    import ray  # pyright: ignore[reportMissingImports]

    cores = max((threads_of(job.shard) for job in waiting), default=1)
    window = 2 * max(int(ray.cluster_resources().get("CPU", 0)) // cores, 1)
    for _ in range(len(waiting)):
        job = waiting.popleft()
        if len(flying) >= window or job.after > time.monotonic():
            waiting.append(job)
            continue
        shard = job.shard
        cores = threads_of(shard)
        on_gpu = int(shard.experiment.device.startswith("cuda"))
        needs = {"num_cpus": cores, "num_gpus": on_gpu, "memory": _bytes(plan, shard)}
        task = ray.remote(max_retries=_MOST_DEATHS, max_calls=0, scheduling_strategy="SPREAD", **needs)(run_child)
        logs = str((plan.directory / LOGS).resolve())
        flying[task.options(name=shard.path.name).remote(request_of(shard, store), logs, cores)] = job


def request_of(shard: Shard, store: str | None = None) -> Request:
    """What the process of a shard is to do; its places are absolute, as a worker has a directory of its own.

    Args:
        shard: to be trained.
        store: where the sweep is sent, if anywhere.

    Returns:
        The request.
    """
    given = shard.experiment.data_dir
    place = str(Path(given).expanduser().resolve()) if given else given
    config = dataclasses.replace(shard.experiment, threads=threads_of(shard), data_dir=place).to_dict()
    return Request(parent=0, path=str(shard.path.resolve()), config=config, store=store)


def threads_of(shard: Shard) -> int:
    """Cores of a shard: as the grid says, or one."""
    return shard.experiment.threads or 1


def _bytes(plan: SweepPlan, shard: Shard) -> int:
    """Memory that a shard is given."""
    of_all = [group for group in plan.groups if as_group(group.experiment) == as_group(shard.experiment)] or plan.groups
    each = max(group.member_bytes for group in of_all)
    images = plan.datasets[shard.experiment.dataset].images.nbytes
    return int(_FREE * (len(shard.experiment.members()) * each + 2 * images)) + _PROGRAM_BYTES


def _settle(plan: SweepPlan, job: _Job, answer: Answer) -> list[_Job]:
    """What follows a shard's end: itself again, its halves, or nothing; a failure is kept."""
    name = job.shard.path.name
    if answer["error"] is None and not answer["is_stopped"]:
        forget_failure(plan.directory, name)
        return []
    if answer["is_out_of_memory"] and (halves := halves_after(plan, job.shard, MemoryError())):
        return [_Job(half) for half in halves]
    if (answer["is_transient"] or answer["is_stopped"]) and job.tries < _MOST_TRIES:
        return [_Job(job.shard, job.tries + 1, time.monotonic() + _PAUSE)]
    note_failure(plan.directory, name, Failure(answer["error"] or "stopped", answer["is_transient"]))
    return []


def _failed(error: str, is_transient: bool = False, is_out_of_memory: bool = False) -> Answer:
    return Answer(error=error, is_transient=is_transient, is_out_of_memory=is_out_of_memory, is_stopped=False)


def run_child(request: Request, logs: str, threads: int) -> Answer:
    """Trains a shard in a process of its own: the task of Ray.

    Args:
        request: what to do.
        logs: the folder into which the process's output goes.
        threads: of the process.

    Returns:
        What became of it.
    """
    path = Path(request["path"])
    Path(logs).mkdir(parents=True, exist_ok=True)
    environment = os.environ | dict.fromkeys(_THREADS, str(threads))
    with open(Path(logs) / f"{path.name}.log", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fastplast.sweeps.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(json.dumps({**request, "parent": os.getpid()}))
        except BaseException:  # the sweep was asked to stop
            process.terminate()
            process.wait(_TOLD)
            raise
    try:
        return json.loads(said)
    except ValueError:
        killed = process.returncode == -9  # as the system does when memory is short
        return _failed(f"its process ended with status {process.returncode}; see {log.name}", killed, killed)
