"""What a member's hyperparameters are: one table, that engines, the pull and the table of members read."""

import pytest
import torch
from assertions import assert_close, assert_same_bits

from fastplast.config import Member
from fastplast.engines import CpuEngine, VmapEngine
from fastplast.methods import METHODS, Method
from fastplast.training.setup import Setup, member_columns

CPU = torch.device("cpu")


@pytest.fixture
def own_method(monkeypatch):
    """A method of one's own that pulls nowhere."""
    monkeypatch.setitem(METHODS, "own", Method(None, False, "pulls nowhere", "this test"))


def engines(trial):
    """Every engine that trains on this machine, and the definition of an update in plain tensors."""
    reference = VmapEngine(trial.group, trial.state, CPU)
    reference._fused = False
    return {
        "vmap": VmapEngine(trial.group, trial.state, CPU),
        "reference": reference,
        "cpu": CpuEngine(trial.group, trial.state, 1),
    }


@pytest.mark.parametrize("name", ["vmap", "reference", "cpu"])
def test_a_method_without_an_anchor_has_no_pull_whatever_its_strength(name, own_method, make_trial):
    mate = Member(1, 1e-3, "l2", 5.0)
    own = make_trial((mate, Member(2, 1e-3, "own", 5.0)))
    none = make_trial((mate, Member(2, 1e-3, "none", 0.0)))
    for trial in (own, none):
        trial.engine = engines(trial)[name]
        trial.train(3)
    assert_same_bits("params", own.state.params, none.state.params)
    assert own.engine.pull.penalty(own.state.params)[1] == 0.0


def test_engines_agree_on_it(own_method, make_trial):
    trained = {}
    for name in ("vmap", "reference", "cpu"):
        trial = make_trial((Member(1, 1e-3, "l2", 5.0), Member(2, 1e-3, "own", 5.0)))
        trial.engine = engines(trial)[name]
        trial.train(3)
        trained[name] = trial.state.params
    for name in ("vmap", "cpu"):
        moved = float((trained["reference"] - trial.state.init).abs().max())
        assert_close(name, trained[name], trained["reference"], factor=1000, scale=moved)


def test_pull_and_table_of_members_say_the_strength_that_is_trained_with(own_method, make_trial):
    trial = make_trial((Member(1, 1e-3, "l2", 5.0), Member(2, 1e-3, "own", 5.0), Member(3, 1e-3, "none", 0.0)))
    setup = Setup(trial.experiment, trial.dataset, trial.problem, trial.group, trial.state, trial.engine)
    assert trial.group.hyper.strength.tolist() == [5.0, 0.0, 0.0]
    assert trial.engine.pull.strength is trial.group.hyper.strength
    assert member_columns(setup)["strength"] == [5.0, 0.0, 0.0]
