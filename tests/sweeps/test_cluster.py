"""A sweep on a cluster has the bits of one process, whatever dies; its children end with their parents."""

import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastplast as fp
from fastplast.runs.ledger import read_failures, read_plan
from fastplast.sweeps import address_of, grid_of, make_plan
from fastplast.sweeps.child import train_shard
from fastplast.sweeps.cluster import request_of, run_child

LITTLE = {"seeds": 2, "tasks": 1, "epochs": 1, "examples": 256, "widths": [12, 10, 8], "checkpoint_minutes": 1e-9}
LITTLE |= {"srank": "start", "threads": 1}


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


@pytest.fixture
def clusters(monkeypatch):
    """The script that kills workers and nodes at random moments, many times."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts" / "faults"))
    yield __import__("clusters")
    for name in ("clusters", "trained"):
        sys.modules.pop(name, None)


def test_a_sweep_on_two_nodes_of_which_one_dies_has_the_bits_of_one_process(clusters, tmp_path):
    pytest.importorskip("ray")
    from fastplast.sweeps import execute_on_cluster

    sweep, died, told = tmp_path / "cluster", [], []

    def kill() -> bool:
        shards = sweep / "shards"
        if not died and list(shards.glob("*/checkpoint/checkpoint.json")):
            died.extend(["worker"] * clusters.kill_worker(sweep, random.Random(0)))
        elif len(died) == 1 and list(shards.glob("*/metrics/part-00001-end.parquet")):
            nodes.kill(1)
            died.append("node")
        return False

    with clusters.cluster_of(2) as nodes:
        plan = make_plan(grid_of(clusters.GRID), sweep, batch=clusters.BATCH)
        assert len(plan.shards) == 4
        execute_on_cluster(plan, nodes.address, stop=kill, tell=told.append)
    assert died == ["worker", "node"]
    assert not read_failures(sweep), told
    assert len(read_plan(sweep)) == 4
    metrics = fp.load(sweep).metrics()
    assert len(metrics) == 24 * 3 * 2 == len(metrics.drop_duplicates(["member", "task", "when"]))
    assert metrics.equals(fp.sweep(clusters.GRID, tmp_path / "one").metrics())
