"""A sweep directory knows what was asked of it, and reads curves and spectra of all its shards."""

import json

import numpy as np
import pandas as pd
import pytest

import fastplast as fp
from fastplast.cli.main import run
from fastplast.runs.files import StoreError
from fastplast.sweeps import Sweep, execute, grid_of, make_plan
from fastplast.sweeps.request import FILE

GRID = {"activation": ["relu", "tanh"], "seeds": 2, "tasks": 1, "epochs": 2, "examples": 32, "widths": [6, 5]}
GRID |= {"threads": 1, "epoch_curves": True, "srank": "start"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Sweep:
    return fp.sweep(GRID, tmp_path_factory.mktemp("asked") / "s")


def shard_of(sweep, activation):
    (shard,) = [shard for shard in sweep.shards if set(shard.members.activation) == {activation}]
    return shard


def test_epochs_are_those_of_the_shards_under_the_numbers_of_the_sweep(sweep):
    epochs, members = sweep.epochs(), sweep.members
    assert len(epochs) == 4 * 2
    assert epochs[["task", "epoch", "member"]].apply(tuple, axis=1).is_monotonic_increasing
    for activation in ("relu", "tanh"):
        shard = shard_of(sweep, activation)
        for number, seed in zip(*(members[members.activation == activation][name] for name in ("member", "seed"))):
            own = int(shard.members.set_index("seed").member[seed])
            mine, its = (t[t.member == n].drop(columns="member") for t, n in ((epochs, number), (shard.epochs(), own)))
            pd.testing.assert_frame_equal(mine.reset_index(drop=True), its.reset_index(drop=True), check_exact=True)
    assert sweep.epochs("arrow").num_rows == 8


def test_spectra_are_in_the_order_of_members(sweep):
    spectra = sweep.spectra(0)
    assert len(spectra) == 4
    for number, activation, seed in sweep.members[["member", "activation", "seed"]].itertuples(index=False):
        shard = shard_of(sweep, activation)
        own = int(shard.members.set_index("seed").member[seed])
        np.testing.assert_array_equal(spectra[number], shard.spectra(0)[own])


def test_what_no_shard_holds_is_an_error(sweep, tmp_path):
    with pytest.raises(StoreError, match=r"task-00001-start.npz is not there|task-.*is not there"):
        sweep.spectra(1)
    bare = fp.sweep(GRID | {"epoch_curves": False, "seeds": 1, "activation": "relu", "srank": "off"}, tmp_path / "bare")
    with pytest.raises(StoreError, match=r"holds no curves of epochs\. They are stored with --epoch-curves"):
        bare.epochs()


def test_an_id_stays_when_a_sweep_is_extended(sweep, tmp_path):
    first = fp.sweep(GRID | {"activation": "tanh"}, tmp_path / "s").members
    both = fp.sweep(GRID, tmp_path / "s").members
    assert both.id.is_unique
    assert both.equals(sweep.members)
    assert dict(zip(first.seed, first.id)) == {
        s: i for s, i, a in both[["seed", "id", "activation"]].values if a == "tanh"
    }
    longer = fp.sweep(GRID | {"tasks": 2, "activation": "tanh"}, tmp_path / "s").members
    assert set(longer.id) == set(both.id)


def test_a_sweep_is_resumed_by_its_directory_alone(sweep, tmp_path, capsys):
    for _, _, events in execute(make_plan(grid_of(GRID), tmp_path / "s")):
        next(iter(events))  # one shard is begun, the other is not
        events.close()
        break
    assert run(["resume", str(tmp_path / "s"), "--quiet"]) == 0
    pd.testing.assert_frame_equal(Sweep(tmp_path / "s").metrics(), sweep.metrics(), check_exact=True)
    assert run(["resume", str(tmp_path / "s"), "--threads", "2"]) == 0
    assert "members     4; 4 finished, 0 not begun" in capsys.readouterr().out


def test_everything_ever_asked_of_a_directory_is_kept_once(tmp_path):
    grids = [GRID | {"activation": "tanh", "seeds": 1}, GRID | {"activation": "tanh", "seeds": 2, "threads": 2}]
    for grid in (grids[0], grids[1], grids[0]):
        fp.sweep(grid, tmp_path / "s")
    kept = json.loads((tmp_path / "s" / FILE).read_text())
    assert [cross["seeds"] for cross in kept["crosses"]] == [1, 2]
    assert kept["machine"] == {"threads": 1}


def test_a_slice_of_a_sweep_may_be_resumed(tmp_path, capsys):
    grid = GRID | {"activation": "relu"}
    fp.sweep(grid, tmp_path / "s", part=(0, 2))
    assert run(["resume", str(tmp_path / "s"), "--shard", "0/2"]) == 0
    assert "0 not begun" in capsys.readouterr().out
    assert len(Sweep(tmp_path / "s").members) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "3"], "--seeds of a sweep is in its grid: got another on resume. Extend a sweep with"),
        (["--shard", "2/2"], "--shard must be i/n with 0 <= i < n: got 2/2"),
    ],
)
def test_what_a_resumed_sweep_cannot_be_given_is_refused(sweep, capsys, words, message):
    assert run(["resume", str(sweep.path), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_slice_of_a_run_and_a_sweep_without_its_grid_are_refused(sweep, tmp_path, capsys):
    assert run(["resume", str(sweep.shards[0].path), "--shard", "0/2"]) == 2
    assert "--shard of resume must be of a sweep: got the run" in capsys.readouterr().err
    (tmp_path / "old" / "shards").mkdir(parents=True)
    assert run(["resume", str(tmp_path / "old")]) == 2
    assert f"a sweep must hold its grid.json to be resumed: got {tmp_path / 'old'}" in capsys.readouterr().err
