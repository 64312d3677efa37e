"""A sweep is extended in tasks: its shards go on, and nothing is trained twice."""

import pytest
from small_runs import SMALL, table

import fastplast as fp
from fastplast.cli.main import run
from fastplast.sweeps import Sweep, expand, grid_of, make_plan

GRID = {n: list(v) if isinstance(v, tuple) else v for n, v in SMALL.items()} | {
    "activation": ["relu", "tanh"], "seeds": 2, "srank": "off", "tasks": 1}  # fmt: skip


def test_more_tasks_continue_the_shards_and_the_table_is_that_of_a_long_sweep(tmp_path, capsys):
    long = fp.sweep(GRID | {"tasks": 3}, tmp_path / "long")
    fp.sweep(GRID, tmp_path / "s")
    shards = [shard.path for shard in Sweep(tmp_path / "s").shards]
    plan = make_plan(grid_of(GRID | {"tasks": 2}), tmp_path / "s")
    assert [shard.is_begun for shard in plan.shards] == [True, True]
    assert (plan.members, plan.finished, plan.others) == (4, 0, 0)
    fp.sweep(GRID | {"tasks": 2}, tmp_path / "s")
    assert run(["resume", str(tmp_path / "s"), "--tasks", "3"]) == 0
    assert "0 to train, 2 to resume" in capsys.readouterr().out
    assert [shard.path for shard in Sweep(tmp_path / "s").shards] == shards
    assert table(tmp_path / "s").equals(table(long.path))
    assert run(["resume", str(tmp_path / "s")]) == 0  # all that was ever asked, shorter grids among it
    assert "4 finished, 0 not begun" in capsys.readouterr().out
    assert make_plan(grid_of(GRID), tmp_path / "s").shards == ()


def test_a_grid_of_several_numbers_of_tasks_trains_the_longest():
    cells = expand(grid_of(GRID | {"tasks": [1, 3, 2]}))
    assert [cell.group.tasks for cell in cells] == [3] * 4


def test_a_shard_goes_on_only_if_all_its_members_are_asked_for(tmp_path):
    fp.sweep(GRID | {"activation": "relu"}, tmp_path / "s")
    plan = make_plan(grid_of(GRID | {"activation": "relu", "seeds": [1], "tasks": 2}), tmp_path / "s")
    assert [(shard.is_begun, len(shard.experiment.members())) for shard in plan.shards] == [(False, 1)]
    assert plan.others == 1


@pytest.mark.parametrize(("grid", "others"), [({"seeds": [2]}, 4), ({"seeds": 3}, 0)])
def test_another_grid_says_what_else_the_directory_holds(grid, others, tmp_path, capsys):
    fp.sweep(GRID, tmp_path / "s")
    fp.sweep(GRID | grid, tmp_path / "s")
    from fastplast.sweeps.dry_run import summarize

    text = summarize(make_plan(grid_of(GRID | grid), tmp_path / "s"))
    assert ("also there" in text) == bool(others)
    assert f"{others} members of other grids" in text or not others
