"""A sweep on a cluster has the bits of one process, whatever dies; its children end with their parents."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fastplast as fp
from fastplast.runs.ledger import read_failures, read_plan
from fastplast.sweeps import address_of, grid_of, make_plan
from fastplast.sweeps.child import train_shard
from fastplast.sweeps.cluster import request_of, run_child

GRID = {"activation": ["relu", "tanh"], "seeds": 12, "tasks": 3, "epochs": 12, "examples": 256, "widths": [12, 10, 8]}
GRID |= {"checkpoint_minutes": 1e-9, "srank": "start", "threads": 1}
LITTLE = GRID | {"activation": "relu", "seeds": 2, "tasks": 1, "epochs": 1}


def little_request(tmp_path, grid=LITTLE):
    (shard,) = make_plan(grid_of(grid), tmp_path / "s").shards
    return request_of(shard)


def test_a_child_trains_a_shard_and_goes_on_with_it(tmp_path):
    request = little_request(tmp_path)
    nothing = {"error": None, "is_transient": False, "is_out_of_memory": False, "is_stopped": False}
    assert train_shard(request) == nothing
    assert fp.load(request["path"]).is_finished
    assert train_shard(request) == nothing


def test_a_child_answers_with_what_failed(tmp_path):
    request = little_request(tmp_path)
    answer = run_child(request | {"config": request["config"] | {"data_dir": "/nowhere"}}, str(tmp_path / "logs"), 1)
    assert answer["error"].startswith("DataError: directory must exist: got /nowhere")
    assert not answer["is_transient"]
    assert list((tmp_path / "logs").iterdir())


def test_relative_places_are_found_from_a_directory_of_the_workers_own(tmp_path, monkeypatch):
    for name in ("data", "worker"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    (shard,) = make_plan(grid_of(LITTLE | {"data_dir": "data"}), "s").shards
    request = request_of(shard)
    monkeypatch.chdir("worker")
    assert run_child(request, str(tmp_path / "logs"), 1)["error"] is None
    assert fp.load(tmp_path / shard.path).is_finished


def test_a_child_ends_with_its_parent(tmp_path):
    request = little_request(tmp_path, LITTLE | {"tasks": 1000, "epochs": 200})
    code = f"from fastplast.sweeps.cluster import run_child\nrun_child({request!r}, {str(tmp_path / 'logs')!r}, 1)"
    parent = subprocess.Popen([sys.executable, "-c", code])
    children = []
    while not (Path(request["path"]) / "progress.json").exists():
        time.sleep(0.05)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    parent.kill()
    parent.wait()
    for _ in range(200):
        if not is_alive(int(children[0])):
            return
        time.sleep(0.05)
    raise AssertionError("the child lives on")


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_cluster_is_ray_at_an_address():
    with pytest.raises(fp.ConfigError, match=r"--cluster must be ray or ray://HOST:PORT: got 'slurm'"):
        address_of("slurm")


def test_a_sweep_on_two_nodes_of_which_one_dies_has_the_bits_of_one_process(tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    from fastplast.sweeps import execute_on_cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    told: list[str] = []
    died: list[str] = []

    def kill() -> None:
        shards = tmp_path / "cluster" / "shards"
        while not list(shards.glob("*/checkpoint/checkpoint.json")):
            time.sleep(0.1)
        worker = parent_of_a_child()
        os.kill(worker, signal.SIGKILL)
        died.append(f"worker {worker}")
        while not list(shards.glob("*/metrics/part-00001-end.parquet")):
            time.sleep(0.1)
        cluster.remove_node(nodes[1], allow_graceful=False)
        died.append("node")

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        ray.init(address=cluster.address, namespace="fastplast", log_to_driver=False)
        plan = make_plan(grid_of(GRID), tmp_path / "cluster", batch=6)
        assert len(plan.shards) == 4
        execute_on_cluster(plan, cluster.address, tell=told.append)
    finally:
        ray.shutdown()
        cluster.shutdown()
    killer.join(10)
    assert len(died) == 2
    assert not read_failures(tmp_path / "cluster"), told
    assert len(read_plan(tmp_path / "cluster")) == 4
    metrics = fp.load(tmp_path / "cluster").metrics()
    assert len(metrics) == 24 * 3 * 2 == len(metrics.drop_duplicates(["member", "task", "when"]))
    assert metrics.equals(fp.sweep(GRID, tmp_path / "one").metrics())


def parent_of_a_child() -> int:
    """The worker of Ray that has started a process which trains."""
    while True:
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"fastplast.sweeps.child" in (path / "cmdline").read_bytes():
                    parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                    if b"ray::" in Path(f"/proc/{parent}/cmdline").read_bytes():
                        return parent
        time.sleep(0.05)
