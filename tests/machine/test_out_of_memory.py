"""What happens when a GPU's memory does not suffice: failures are injected, on a CPU."""

import pandas as pd
import pytest
import torch
from assertions import assert_close, assert_same_state
from small_runs import small, table

import fastplast as fp
from fastplast.config import ConfigError
from fastplast.training import loop as trainer
from fastplast.training import setup as preparation

NO_MEMORY = torch.OutOfMemoryError("injected")


@pytest.fixture
def of_two_gib(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**20, 2**31))


def failing(original, times):
    """A function that has no memory the first times."""
    left = [times]

    def run(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise NO_MEMORY
        return original(*args, **kwargs)

    return run


@pytest.mark.usefixtures("of_two_gib")
def test_members_that_do_not_fit_are_told_how_many_would(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "choose_engine", failing(None, 1))
    with pytest.raises(ConfigError, match=r"must fit in GPU memory: got 2 members, of which it holds about [\d,]+"):
        fp.train(small(tmp_path / "a"))


@pytest.mark.usefixtures("of_two_gib")
def test_data_that_does_not_fit_is_told_and_the_run_resumes(tmp_path, monkeypatch):
    expected = table(fp.train(small(tmp_path / "a")).path)
    original, moved = preparation.to_device, []

    def to(holder, device):
        moved.append(type(holder).__name__)
        if moved.count("Task") > 2 and moved[-1] == "Task":
            raise NO_MEMORY
        return original(holder, device)

    monkeypatch.setattr(preparation, "to_device", to)
    with (
        pytest.warns(UserWarning, match="GPU memory does not suffice for a task's data"),
        pytest.raises(ConfigError, match="members and their data must fit in GPU memory: got 2 members"),
    ):
        fp.train(small(tmp_path / "b"))
    monkeypatch.setattr(preparation, "to_device", original)
    fp.resume(tmp_path / "b")
    pd.testing.assert_frame_equal(table(tmp_path / "b"), expected, check_exact=True)


@pytest.mark.parametrize("times", [1, 2])
def test_a_measurement_without_memory_is_made_on_the_cpu(tmp_path, monkeypatch, times):
    expected = table(fp.train(small(tmp_path / "a")).path)
    original, calls = trainer.measure_group, []

    def measure(*args, **kwargs):
        calls.append(1)
        if len(calls) in (1, 4)[:times]:
            raise NO_MEMORY
        return original(*args, **kwargs)

    monkeypatch.setattr(trainer, "measure_group", measure)
    with pytest.warns(UserWarning, match=r"measuring beside training: task [01] is measured on the CPU at its"):
        fp.train(small(tmp_path / "b"))
    assert len(calls) == 6 + times
    pd.testing.assert_frame_equal(table(tmp_path / "b"), expected, check_exact=True)


def test_gradients_without_memory_are_computed_part_by_part(make_trial):
    whole, split = make_trial(), make_trial()
    engine = split.engine
    original = engine._transformed

    def transformed():
        return failing(original(), 99 if engine.at_once != 1 else 0)

    engine._transformed, engine._gradients = transformed, transformed()
    with pytest.warns(UserWarning, match="GPU memory does not suffice for gradients of [32] members at once"):
        split.train(2)
    whole.train(2)
    assert engine.at_once == 1
    assert_close("params", split.state.params, whole.state.params, dtype=torch.float32, length=10**4)
    assert torch.equal(split.state.steps, whole.state.steps)


def test_an_update_that_fails_between_members_is_made_once_for_each(make_trial, monkeypatch):
    whole, split = make_trial(), make_trial()
    whole.engine._fused = split.engine._fused = False  # as on a GPU
    apply, calls = split.engine._apply_block, []

    def fails_once(state, rows, *rest):
        calls.append(rows)
        if len(calls) == 2:
            raise NO_MEMORY
        apply(state, rows, *rest)

    split.engine._rows = 2  # of 3 members
    monkeypatch.setattr(split.engine, "_apply_block", fails_once)
    with pytest.warns(UserWarning, match="GPU memory does not suffice for updates of 2 members at once: those of 1"):
        split.train()
    whole.train()
    assert [rows.stop for rows in calls[:3]] == [2, 3, 3]
    assert_same_state(split.state, whole.state)


def test_one_member_that_does_not_fit_is_an_error_and_leaves_the_state(make_trial):
    trial = make_trial()
    before = trial.state.params.clone()
    trial.engine.at_once, trial.engine._gradients = 1, failing(None, 1)
    with pytest.raises(ConfigError, match="what trains one member must fit in GPU memory beside the state of all"):
        trial.train()
    assert torch.equal(trial.state.params, before)
