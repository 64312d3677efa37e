"""A shard that fails ends neither its sweep nor its neighbours, is told, and is trained again when asked."""

import errno
import itertools
import json
import os
import platform
import random
import sys
from pathlib import Path

import pytest
import torch
from small_runs import drain, small

import fastplast as fp
from fastplast.cli.main import run
from fastplast.runs import status as statuses
from fastplast.runs.files import StoreError, take_lock
from fastplast.runs.ledger import read_failures, read_plan
from fastplast.sweeps import execute, grid_of, make_plan
from fastplast.sweeps.plan import _split
from fastplast.training.start import start

WORDS = ["--activation", "relu", "tanh", "--seeds", "2", "--tasks", "2", "--epochs", "1", "--examples", "32"]
WORDS += ["--widths", "6", "5", "--srank", "off", "--threads", "1"]
GRID = {"activation": ["relu", "tanh"], "seeds": 4, "tasks": 2, "epochs": 1, "examples": 32, "widths": [6, 5]}
GRID |= {"srank": "off", "threads": 1}


@pytest.fixture
def failing(monkeypatch):
    """Makes shards fail as long as the returned list holds a function of a shard that raises."""
    module = sys.modules[execute.__module__]  # the name of the package is the function
    raising = []

    def begin(plan, shard, stop, before=module._begin):
        for one in raising:
            one(shard)
        return before(plan, shard, stop)

    monkeypatch.setattr(module, "_begin", begin)
    return raising


def fails(word, error):
    def one(shard):
        if word in shard.path.name:
            raise error

    return one


def test_a_shard_that_fails_is_told_and_left_out_until_it_is_asked_for(tmp_path, failing, capsys):
    out = str(tmp_path / "s")
    failing.append(fails("relu", RuntimeError("a bug")))
    assert run(["sweep", *WORDS, "--out", out, "--quiet"]) == 1
    error = capsys.readouterr().err
    (name,) = read_failures(tmp_path / "s")
    assert f"shard {name} failed: RuntimeError: a bug" in error
    assert f"1 of 2 shards failed. Again: fastplast resume {out} --retry-failed" in error
    assert [shard.is_finished for shard in fp.load(out).shards] == [True]  # the neighbour
    assert run(["status", out]) == 0
    text = capsys.readouterr().out
    row, total = next(line.split() for line in text.splitlines() if "more shard" in line), text.splitlines()[-3].split()
    assert row == ["1", "more", "shard", "not", "begun", "2"]
    assert total[:2] == ["total", "4"]
    assert "2 shards: 1 finished, 1 not begun;" in text
    assert f"failed: {name}: RuntimeError: a bug" in text
    failing.clear()
    assert run(["resume", out, "--quiet"]) == 1  # as before: nothing is tried
    assert run(["resume", out, "--quiet", "--retry-failed"]) == 0
    assert not read_failures(tmp_path / "s")
    assert len(fp.load(out).shards) == 2


def test_what_may_go_is_tried_again_by_itself(tmp_path, failing, capsys):
    out = str(tmp_path / "s")
    full = StoreError("the disk is full")
    full.errno = errno.ENOSPC
    failing.append(fails("relu", full))
    assert run(["sweep", *WORDS, "--out", out, "--quiet"]) == 75
    assert f"Again: fastplast resume {out}\n" in capsys.readouterr().err
    failing.clear()
    assert run(["resume", out, "--quiet"]) == 0


def test_a_run_that_another_process_writes_is_a_transient_failure(tmp_path, capsys):
    fp.train(small(tmp_path / "run", tasks=1))
    lock = take_lock(tmp_path / "run")
    assert run(["resume", str(tmp_path / "run"), "--tasks", "2"]) == 75
    os.close(lock)


def test_in_python_the_first_error_comes_once_all_others_are_trained(tmp_path, failing):
    failing.append(fails("relu", KeyError("mine")))
    with pytest.raises(KeyError, match="mine"):
        fp.sweep(GRID, tmp_path / "s")
    assert len(fp.load(tmp_path / "s").shards) == 1


def test_out_of_memory_halves_the_batch(tmp_path, failing):
    want = fp.sweep(GRID, tmp_path / "whole").metrics()

    def small_machine(shard):
        if len(shard.experiment.members()) > 2:
            raise torch.OutOfMemoryError("no memory")

    failing.append(small_machine)
    swept = fp.sweep(GRID, tmp_path / "halves")
    assert [len(shard.members) for shard in swept.shards] == [2, 2, 2, 2]
    assert swept.metrics().equals(want)
    assert read_plan(tmp_path / "halves").keys() == {shard.path.name for shard in swept.shards}  # none waits any longer


def test_the_batch_is_no_larger_for_more_memory(tmp_path, monkeypatch):
    plans = []
    for free in (1 << 30, 1 << 40):
        monkeypatch.setattr("fastplast.sweeps.plan.free_bytes", lambda device, free=free: free)
        plans.append(make_plan(grid_of(GRID | {"seeds": 600}), tmp_path / "s", part=(0, 2)))
    first, second = ([s.path.name for s in plan.shards] for plan in plans)
    assert first == second
    assert max(len(s.experiment.members()) for s in plans[0].shards) <= 512
    monkeypatch.setattr("fastplast.sweeps.plan.free_bytes", lambda device: 1 << 26)
    with pytest.raises(fp.ConfigError, match=r"a batch of 300 members of mlp must fit .* Say --batch \d+, or less"):
        make_plan(grid_of(GRID | {"seeds": 600}), tmp_path / "s", part=(0, 2))


def test_what_is_left_of_a_plan_is_planned_as_before():
    rng = random.Random(0)
    for members, batch in itertools.product(range(1, 60), range(1, 14)):
        parts = list(_split(list(range(members)), batch))
        begun = [part for part in parts if rng.random() < 0.5]
        missing = [m for m in range(members) if not any(m in part for part in begun)]
        assert list(_split(missing, batch)) == [part for part in parts if part not in begun]


def test_a_plan_is_kept_once(tmp_path):
    for _ in range(2):
        fp.sweep(GRID, tmp_path / "s", batch=2)
    planned = read_plan(tmp_path / "s")
    assert len(planned) == 4
    assert {plan for plan in planned.values()} == {(2, 2 * 2 * 2)}


def test_a_run_on_another_machine_lives_as_long_as_it_is_heard_of(tmp_path):
    _, events = start(small(tmp_path / "run"))
    drain(events, 1)
    events.close()
    lock = tmp_path / "run" / ".lock"
    assert lock.read_text() == ""
    lock.write_text("process 4711 on another-machine")
    assert statuses.status(tmp_path / "run").state == "training"
    with pytest.raises(StoreError, match="a second one while process 4711 on another-machine writes it"):
        fp.resume(tmp_path / "run")
    os.utime(lock, (0, 0))
    assert statuses.status(tmp_path / "run").state == "died"
    lock.write_text(f"process 4711 on {platform.node()}")
    assert statuses.status(tmp_path / "run").state == "died"  # here the lock itself tells
    assert fp.resume(tmp_path / "run").is_finished


def test_a_lock_is_renewed_while_a_run_trains(tmp_path, monkeypatch):
    monkeypatch.setattr("fastplast.runs.heartbeat._BEAT_SECONDS", 0.01)
    _, events = start(small(tmp_path / "run"))
    next(events)
    lock = tmp_path / "run" / ".lock"
    os.utime(lock, (0, 0))
    while lock.stat().st_mtime == 0:
        pass
    events.close()


def test_status_tells_a_damaged_shard_beside_the_others(tmp_path, capsys):
    swept = fp.sweep(GRID, tmp_path / "s")
    (swept.shards[0].path / "env.json").write_text("[]")
    capsys.readouterr()
    assert run(["status", str(tmp_path / "s"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [shard["state"] for shard in found["shards"]] == ["damaged", "finished"]
    assert (found["not_begun"], found["failed"], found["rate"]) == (0, {}, None)
    assert Path(found["path"]) == tmp_path / "s"


def test_the_same_sweep_twice_at_once_loses_nothing(tmp_path):
    plans = [make_plan(grid_of(GRID), tmp_path / "s") for _ in range(2)]
    first = execute(plans[0])
    shard, _, events = next(first)
    next(events)
    failed = []
    for _, _, others in execute(plans[1], failed=failed):
        drain(others)
    assert [one.path for one, _ in failed] == [shard.path]
    drain(events)
    first.close()
    assert fp.load(tmp_path / "s").is_finished
