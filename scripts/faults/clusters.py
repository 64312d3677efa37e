"""Kills of Ray's workers and nodes while they train a sweep: it goes on to the bits of one process."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trained import Row

import fastplast as fp
from fastplast.runs.ledger import read_failures
from fastplast.sweeps import execute_on_cluster, grid_of, make_plan

GRID = {"activation": ["relu", "tanh"], "seeds": 12, "tasks": 3, "epochs": 12, "examples": 256, "widths": [12, 10, 8]}
GRID |= {"checkpoint_minutes": 1e-9, "srank": "start", "threads": 1}
BATCH = 6  # members of a shard, of which there are four
WORKERS = 4  # that are killed for each node


class Nodes:
    """A cluster of Ray on this machine: a head that trains nothing, and nodes of a core each.

    Attributes:
        address: of the cluster.
    """

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100_000_000}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = []
        for _ in range(count):
            self.add()
        self.address: str = self._cluster.address

    def add(self) -> None:
        """Starts another node."""
        self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=100_000_000))

    def kill(self, number: int) -> None:
        """Kills all processes of a node, which then is no more.

        Args:
            number: of the node, from 0.
        """
        self._cluster.remove_node(self._nodes.pop(number), allow_graceful=False)

    def close(self) -> None:
        """Ends all nodes."""
        self._cluster.shutdown()


@contextlib.contextmanager
def cluster_of(count: int) -> Iterator[Nodes]:
    """A cluster to which this process is connected.

    Args:
        count: of nodes that train.

    Yields:
        Its nodes.
    """
    import ray  # pyright: ignore[reportMissingImports]

    nodes = Nodes(count)
    try:
        ray.init(address=nodes.address, namespace="fastplast", log_to_driver=False)
        yield nodes
    finally:
        ray.shutdown()
        nodes.close()


def workers_of(sweep: Path) -> list[int]:
    """The workers of Ray that train shards of a sweep at this moment, each by a process of its own.

    Args:
        sweep: its directory.

    Returns:
        Numbers of processes.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_child = b"fastplast.sweeps.child" in (path / "cmdline").read_bytes()
            if is_child and os.readlink(path / "fd" / "2").startswith(str(sweep.resolve())):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if b"ray::" in Path(f"/proc/{parent}/cmdline").read_bytes():
                    found.append(parent)
    return found


def kill_worker(sweep: Path, rng: random.Random) -> bool:
    """Kills a worker that trains a shard of a sweep.

    Args:
        sweep: its directory.
        rng: chooses which.

    Returns:
        Whether there was one.
    """
    workers = workers_of(sweep)
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
            return True
    return False


def cluster_kills(work: Path, count: int, first: int = 0) -> list[Row]:
    """SIGKILL of workers and nodes of Ray at random moments of sweeps on two nodes, until so many nodes were killed."""
    workers = Row("SIGKILL of a worker of Ray, at random moments of a sweep on two nodes", "the bits of one process")
    nodes = Row("all processes of a node of Ray killed, in the same sweeps", "the bits of one process")
    try:
        import ray  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError:
        print("cluster_kills: nothing is tried, for Ray is not installed; `pip install ray` does.", flush=True)
        return [workers, nodes]
    rng = random.Random(first)
    want = fp.sweep(GRID, work / "one", batch=BATCH, progress=False).metrics()
    with cluster_of(2) as cluster:
        while workers.tried < count * WORKERS or nodes.tried < count:
            sweep = work / "cluster"

            def kill(sweep: Path = sweep) -> bool:
                time.sleep(rng.uniform(0.0, 2.0))
                if nodes.tried < count and workers.tried >= (nodes.tried + 1) * WORKERS and workers_of(sweep):
                    cluster.kill(rng.randrange(2))
                    cluster.add()
                    nodes.count(None)
                elif workers.tried < count * WORKERS and kill_worker(sweep, rng):
                    workers.count(None)
                return False  # it goes on

            execute_on_cluster(make_plan(grid_of(GRID), sweep, batch=BATCH), cluster.address, stop=kill)
            if failures := read_failures(sweep):
                workers.wrong.append(f"failed: {failures}")
            elif not fp.load(sweep).metrics().equals(want):
                workers.wrong.append("other bits")
            shutil.rmtree(sweep)
    return [workers, nodes]
