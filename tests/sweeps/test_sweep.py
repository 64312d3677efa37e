"""Sweeps on disk: whatever kills, divides or extends one, its table is the same."""

import os
import signal
import subprocess
import sys
from itertools import count

import pandas as pd
import pytest
import torch

import fastplast as fp
from fastplast.cli.main import run
from fastplast.sweeps import Sweep, execute, grid_of, make_plan
from fastplast.sweeps.plan import parse_slice
from fastplast.training.loop import EpochDone, TaskDone, TaskStarted

GRID = {"method": ["none", "l2", "wasserstein"], "strength": [0.1, 0.0], "learning_rate": 1e-2, "seeds": 2}
GRID |= {"activation": ["relu", "tanh"], "tasks": 2, "epochs": 2, "examples": 48, "widths": [6, 5, 4], "threads": 1}
MEMBERS = 2 * 2 * (1 + 2 * 2)


def table(*paths) -> pd.DataFrame:
    return fp.load(*paths).metrics()


def assert_same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Sweep:
    return fp.sweep(GRID, tmp_path_factory.mktemp("sweep") / "whole")


def test_a_sweep_has_a_row_for_every_member_task_and_time(whole):
    metrics = whole.metrics()
    assert len(metrics) == MEMBERS * 2 * 2 == len(metrics.drop_duplicates(["member", "task", "when"]))
    assert len(whole.members) == MEMBERS == metrics.member.nunique()
    assert whole.is_finished
    assert metrics.hessian_srank[metrics.when == "start"].notna().all()


def test_one_batch_per_activation_mixes_everything_else(whole):
    assert len(whole.shards) == 2
    for shard in whole.shards:
        assert shard.members.activation.nunique() == 1
        assert shard.members[["method", "strength", "seed"]].nunique().tolist() == [3, 2, 2]


def test_a_shard_is_an_ordinary_run(whole, tmp_path, capsys):
    shard = fp.load(whole.shards[0].path)
    assert len(shard.metrics()) == MEMBERS // 2 * 4
    config = shard.path / "config.json"
    assert run(["train", "--config", str(config), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    assert_same(fp.load(tmp_path / "again").metrics(), shard.metrics())


def test_a_member_of_a_sweep_is_the_member_of_a_run_of_its_own(whole, tmp_path):
    alone = {k: v for k, v in GRID.items() if k not in ("method", "strength", "activation", "seeds", "learning_rate")}
    single = fp.train(fp.Experiment(**alone, activation="tanh", method="wasserstein", strength=0.1, learning_rate=1e-2,
                                    seeds=(1,), out=str(tmp_path / "one"))).metrics()  # fmt: skip
    metrics = whole.metrics()
    mine = metrics[(metrics.activation == "tanh") & (metrics.method == "wasserstein") & (metrics.strength == 0.1)]
    mine = mine[mine.seed == 1].reset_index(drop=True)
    assert_same(mine.drop(columns="member"), single.drop(columns="member")[mine.columns.drop("member")])


def test_slices_make_the_same_table_in_one_directory_and_in_several(whole, tmp_path):
    for i in range(3):
        fp.sweep(GRID, tmp_path / "together", part=(i, 3))
        fp.sweep(GRID, tmp_path / str(i), part=(i, 3))
    assert_same(table(tmp_path / "together"), whole.metrics())
    assert_same(table(*(tmp_path / str(i) for i in (2, 0, 1))), whole.metrics())


def test_small_batches_make_the_same_table(whole, tmp_path):
    small = fp.sweep(GRID, tmp_path / "small", batch=4)
    assert len(small.shards) == 2 * 3
    assert_same(small.metrics(), whole.metrics())


def test_running_again_does_nothing(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*") if path.is_file()}
    plan = make_plan(grid_of(GRID), whole.path)
    assert (plan.finished, plan.shards) == (MEMBERS, ())
    assert list(execute(plan)) == []
    assert before == {path: path.stat().st_mtime_ns for path in whole.path.rglob("*") if path.is_file()}


def test_more_values_and_seeds_extend_a_sweep(whole, tmp_path):
    first = GRID | {"seeds": [1], "activation": "tanh"}
    fp.sweep(first, tmp_path / "s")
    plan = make_plan(grid_of(GRID), tmp_path / "s")
    assert (plan.members, plan.finished, sum(g.missing for g in plan.groups)) == (MEMBERS, 5, MEMBERS - 5)
    assert_same(fp.sweep(GRID, tmp_path / "s").metrics(), whole.metrics())


def test_a_sweep_of_more_tasks_shows_the_longer_members_once(tmp_path):
    little = {"seeds": 2, "tasks": 1, "epochs": 1, "examples": 32, "widths": [6, 5], "srank": "off", "threads": 1}
    fp.sweep(little, tmp_path / "s")
    metrics = fp.sweep(little | {"tasks": 3, "seeds": 1}, tmp_path / "s").metrics()
    assert metrics.groupby("seed").task.max().to_dict() == {0: 2, 1: 0}
    assert not metrics.duplicated(["member", "task", "when"]).any()


@pytest.mark.parametrize(("kind", "after"), [(TaskStarted, 1), (EpochDone, 3), (TaskDone, 1), (TaskDone, 2),
                                             (TaskStarted, 3), (EpochDone, 6)])  # fmt: skip
def test_a_sweep_that_dies_anywhere_goes_on_to_the_same_table(whole, tmp_path, kind, after):
    seen = count(1)
    dead = False
    for _, _, events in execute(make_plan(grid_of(GRID | {"checkpoint_minutes": 1e-9}), tmp_path / "s")):
        for event in events:
            dead = isinstance(event, kind) and next(seen) == after
            if dead:
                break
        events.close()
        if dead:
            break
    assert dead
    assert_same(fp.sweep(GRID, tmp_path / "s").metrics(), whole.metrics())


def test_a_sweep_killed_by_the_system_goes_on_to_the_same_table(whole, tmp_path):
    code = (
        "import sys, fastplast as fp\nfrom fastplast.sweeps import execute, grid_of, make_plan\n"
        f"for _, _, events in execute(make_plan(grid_of({GRID!r}), sys.argv[1])):\n"
        "  for e in events: print(type(e).__name__, flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "TaskDone":
            os.kill(child.pid, signal.SIGKILL)
            break
    child.wait()
    child.stdout.close()
    assert_same(fp.sweep(GRID, tmp_path / "s").metrics(), whole.metrics())


def test_a_shard_that_was_being_made_is_made_again(whole, tmp_path):
    for shard in make_plan(grid_of(GRID), tmp_path / "s").shards:
        shard.path.mkdir(parents=True)
        (shard.path / "env.json").write_text("{}")
        (shard.path / ".config.json.1.tmp").write_text("{")
    assert_same(fp.sweep(GRID, tmp_path / "s").metrics(), whole.metrics())


def test_an_unfinished_shard_is_resumed_by_one_slice(tmp_path):
    for _, _, events in execute(make_plan(grid_of(GRID), tmp_path / "s")):
        next(events)
        events.close()
        break
    begun = [sum(s.is_begun for s in make_plan(grid_of(GRID), tmp_path / "s", part=(i, 3)).shards) for i in range(3)]
    assert sorted(begun) == [0, 0, 1]


def test_a_diverged_member_is_in_the_table(tmp_path):
    grid = {k: v for k, v in GRID.items() if k not in ("method", "strength")}
    grid |= {"learning_rate": [1e-3, 1e30], "activation": "relu"}
    metrics = fp.sweep(grid, tmp_path / "s", batch=1).metrics()
    assert metrics[metrics.when == "end"].groupby("learning_rate").diverged.all().to_dict() == {1e-3: False, 1e30: True}


def test_members_that_do_not_fit_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(fp.ConfigError, match=r"one member of mlp must fit in memory: it takes .* GiB of 0.00"):
        make_plan(grid_of(GRID), tmp_path / "s", memory=1e-4)
    with pytest.raises(fp.ConfigError, match=r"--batch 300 of mlp must fit in memory"):
        make_plan(grid_of(GRID | {"widths": [200, 8], "seeds": 60}), tmp_path / "s", memory=0.3, batch=300)
    with pytest.raises(fp.ConfigError, match=r"--memory must be positive: got -1"):
        make_plan(grid_of(GRID), tmp_path / "s", memory=-1)
    assert not (tmp_path / "s").exists()


def test_what_a_run_would_refuse_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(fp.ConfigError, match="--srank off"):
        fp.sweep(GRID | {"widths": [[6, 5, 4], [400, 300]]}, tmp_path / "s")
    with pytest.raises(fp.ConfigError, match="--examples must not exceed the images of mnist"):
        fp.sweep(GRID | {"examples": [48, 100_000]}, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(fp.ConfigError, match="--out must be a sweep, or a new or empty directory"):
        fp.sweep(GRID, tmp_path)
    with pytest.raises(FileNotFoundError, match="path must be a sweep directory"):
        Sweep(tmp_path)


@pytest.mark.parametrize("text", ["3/3", "a/2", "1", "-1/2", "1/0"])
def test_a_slice_is_i_of_n(text):
    with pytest.raises(fp.ConfigError, match=r"--shard must be i/n with 0 <= i < n: got"):
        parse_slice(text)


WORDS = ["--method", "none", "l2", "--strength", "0.1", "0.01", "--seeds", "2", "--tasks", "1", "--epochs", "1",
         "--examples", "32", "--widths", "8", "6", "--activation", "relu", "tanh", "--threads", "1"]  # fmt: skip


def test_the_command_line_plans_runs_extends_plots_and_exports(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["sweep", *WORDS, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "members     12; 0 finished, 12 not begun" in text
    assert "time        at most about" in text
    assert list(tmp_path.iterdir()) == []
    assert run(["sweep", *WORDS, "--shard", "0/2"]) == 0
    assert "members     12, 6 of them in this slice" in capsys.readouterr().out
    assert run(["sweep", *WORDS]) == 0
    assert "members     12; 6 finished, 6 not begun" in capsys.readouterr().out
    assert run(["sweep", *WORDS, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    (place,) = (tmp_path / "runs").glob("sweep-mnist_shuffle-*")
    assert run(["export", str(place)]) == 0
    assert len(pd.read_csv(place / "metrics.csv")) == 12 * 2
    assert run(["plot", str(place), "--formats", "png"]) == 0
    assert os.path.getsize(capsys.readouterr().out.split()[-1]) > 5000


def test_several_widths_are_typed_with_commas(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [w for w in WORDS if w not in ("8", "6")]
    words[words.index("--widths") + 1 : words.index("--widths") + 1] = ["8,6", "9"]
    assert run(["sweep", *words, "--dry-run", "--srank", "off"]) == 0
    assert "groups      4" in capsys.readouterr().out


def test_a_bad_grid_is_told_with_file_and_line(tmp_path, capsys):
    path = tmp_path / "g.toml"
    path.write_text('seeds = 2\nactivation = "rleu"\n')
    assert run(["sweep", "--grid", str(path)]) == 2
    assert f"{path}, line 2: --activation must be a known name: got 'rleu'. Did you mean" in capsys.readouterr().err


def test_a_sweep_of_compiled_updates_is_trained_read_and_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    out, words = str(tmp_path / "sweep"), [w for w in WORDS if w != "tanh"]
    assert run(["sweep", *words, "--engine", "vmap", "--compile", "--out", out]) == 0
    assert fp.load(out).metrics().compile.all()
    assert run(["resume", out]) == 0
    assert "members     6; 6 finished, 0 not begun" in capsys.readouterr().out


def test_methods_that_kernels_do_not_serve_have_batches_of_their_own(tmp_path):
    grid = GRID | {"activation": "relu", "method": ["none", "cbp", "spectral", "c_chain"], "strength": 0.1}
    sweep = make_plan(grid_of(grid), tmp_path / "sweep")
    methods = [sorted({member.method for member in shard.experiment.members()}) for shard in sweep.shards]
    assert methods == [["cbp", "none"], ["c_chain", "spectral"]]
    assert [group.setup.engine.name for group in sweep.groups] == ["cpu", "vmap"]
    alike = make_plan(grid_of(grid | {"engine": "vmap"}), tmp_path / "sweep")
    assert len(alike.shards) == 1
