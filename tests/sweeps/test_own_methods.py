"""Sweeps with a method of one's own are read by a process that does not know it, and trained by one that does."""

import os

import pandas as pd
import pytest

import fastplast as fp
from fastplast.cli.main import run
from fastplast.config import TAKES_STRENGTH, ConfigError, Experiment, Member
from fastplast.methods import METHODS, Method, register
from fastplast.sweeps.sweep import read_ids

GRID = {
    "method": ["none", "l2", "halved"],
    "strength": [1.0],
    "seeds": 2,
    "tasks": 2,
    "epochs": 1,
    "examples": 32,
    "widths": [5, 4, 4],
    "engine": "vmap",
    "threads": 1,
}


@pytest.fixture
def forget():
    def forget() -> None:
        METHODS.pop("halved", None)
        TAKES_STRENGTH.pop("halved", None)

    yield forget
    forget()


def learn() -> None:
    register("halved", Method(lambda init, layout: init / 2, False, "", ""))


def test_metrics_of_a_sweep_need_no_method(forget, tmp_path, capsys) -> None:
    learn()
    swept = fp.sweep(GRID, tmp_path / "s")
    expected, ids = swept.metrics(), [one for shard in swept.shards for one in read_ids(shard)]
    assert set(expected.method) == {"none", "l2", "halved"}
    forget()
    found = fp.load(tmp_path / "s")
    assert [one for shard in found.shards for one in read_ids(shard)] == ids
    assert len(set(ids)) == 6
    pd.testing.assert_frame_equal(found.metrics(), expected, check_exact=True)
    place = str(tmp_path / "s")
    for words in (["status"], ["export"], ["plot", "--formats", "svg"], ["report"]):
        assert run([words[0], place, *words[1:]]) == 0, words
    capsys.readouterr()
    assert run(["resume", place]) == 2
    told = (
        "resume needs the method halved of the sweep: got none of that name. Call fastplast.methods.register('halved'"
    )
    assert told in capsys.readouterr().err
    learn()
    assert len(fp.sweep(GRID | {"seeds": 3}, tmp_path / "s").metrics()) == 9 * 4
    assert len(os.listdir(tmp_path / "s" / "shards")) == 2


def test_a_member_of_an_unknown_method_can_be_read_and_not_trained() -> None:
    member = Member(0, 1e-3, "strange", 1.0, options={"strange_rate": 0.5})
    assert member.to_dict()["options"] == {"strange_rate": 0.5}
    with pytest.raises(ConfigError, match="--method must be a known name: got 'strange'"):
        Experiment(member_list=(member,))
    with pytest.raises(ConfigError, match="options must be of --method l2: got 'strange_rate'"):
        Member(0, 1e-3, "l2", 1.0, options={"strange_rate": 0.5})
