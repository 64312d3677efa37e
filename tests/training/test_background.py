"""Measuring a task's start while the task is trained changes nothing but the time."""

import threading

import pandas as pd
import pytest
import torch
from small_runs import drain, small, table
from torch import nn
from watched_runs import assert_all_metrics_are_there, look

import fastplast as fp
from fastplast.config import ConfigError
from fastplast.measuring.group import measure_group
from fastplast.tracking import Views
from fastplast.training import loop as trainer
from fastplast.training.background import BackgroundWorker
from fastplast.training.loop import EpochDone, Stopped, TaskDone, TaskStarted
from fastplast.training.start import proceed, start

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fp.train(small(tmp_path_factory.mktemp("run") / "a", head_reset="zero"))


@pytest.fixture
def late(monkeypatch):
    """Lets the measurement of a task's start wait until the test allows it."""
    allowed, begun = threading.Event(), threading.Event()

    def slow(*arguments, **options):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert allowed.wait(60)
        return measure_group(*arguments, **options)

    monkeypatch.setattr(trainer, "measure_group", slow)
    yield allowed, begun
    allowed.set()


@pytest.mark.parametrize("engine", ["cpu", "vmap"])
def test_results_are_the_same_bit_for_bit(tmp_path, engine):
    changes = {"engine": engine, "srank": "both", "method": "wasserstein", "strength": 1e-3}
    plain = fp.train(small(tmp_path / "a", **changes))
    beside = fp.train(small(tmp_path / "b", **changes, overlap=True))
    pd.testing.assert_frame_equal(table(beside.path), table(plain.path), check_exact=True)
    for task in range(3):
        for one, other in zip(plain.spectra(task, "start"), beside.spectra(task, "start")):
            assert (one == other).all()


def test_a_start_is_measured_as_it_was_however_late(finished, late, tmp_path):
    allowed, begun = late
    setup, events = start(small(tmp_path / "b", head_reset="zero", overlap=True))
    assert isinstance(next(events), EpochDone)
    assert begun.wait(60)
    assert isinstance(next(events), EpochDone)
    assert int(setup.state.steps.max()) == 2 * 96 // 16
    allowed.set()
    assert [type(event) for event in events][:2] == [TaskStarted, TaskDone]
    pd.testing.assert_frame_equal(table(tmp_path / "b"), table(finished.path), check_exact=True)


@pytest.mark.parametrize(("kind", "count"), [(TaskStarted, 1), (EpochDone, 1), (EpochDone, 3), (TaskDone, 1)])
@pytest.mark.parametrize("minutes", [1e-9, 5.0])
def test_a_run_that_dies_anywhere_resumes_to_the_same_bits(finished, tmp_path, kind, count, minutes):
    _, events = start(small(tmp_path / "b", head_reset="zero", overlap=True, checkpoint_minutes=minutes))
    drain(events, count, kind)
    events.close()
    fp.resume(tmp_path / "b")
    pd.testing.assert_frame_equal(table(tmp_path / "b"), table(finished.path), check_exact=True)


def test_a_checkpoint_waits_for_the_measurement(finished, late, tmp_path):
    allowed, _ = late
    asked = []

    def stop():
        asked.append(True)
        threading.Timer(0.2, allowed.set).start()
        return True

    _, events = start(small(tmp_path / "b", head_reset="zero", overlap=True), stop=stop)
    assert [type(event) for event in events] == [EpochDone, TaskStarted, Stopped]
    _, events = proceed(tmp_path / "b")
    assert not any(isinstance(event, TaskStarted) and event.task == 0 for event in events)
    pd.testing.assert_frame_equal(table(tmp_path / "b"), table(finished.path), check_exact=True)


def test_a_measurement_that_fails_ends_training_with_its_error(tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise ArithmeticError("injected")

    monkeypatch.setattr(trainer, "measure_group", broken)
    with pytest.raises(ArithmeticError, match="injected"):
        fp.train(small(tmp_path / "b", overlap=True))


def test_a_module_is_refused(tmp_path):
    def module():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10))

    with pytest.raises(ConfigError, match="--overlap needs a built-in network: got a module"):
        fp.train(small(tmp_path / "b", overlap=True, widths=None), network=module)


def test_work_is_done_at_once_where_nothing_overlaps():
    with BackgroundWorker(CPU, at_once=True) as worker:
        worker.submit(threading.current_thread)
        assert worker.is_done
        assert worker.result() is threading.main_thread()
        assert not worker.is_pending


def test_leaving_waits_for_work():
    done = []
    with BackgroundWorker(CPU, at_once=False) as worker:
        worker.submit(lambda: done.append(threading.current_thread()))
        assert worker.is_pending
    assert done[0] is not threading.main_thread()


def test_a_start_measured_late_is_told_to_live_views(late, tmp_path):
    pytest.importorskip("tensorboard")
    threading.Timer(0.5, late[0].set).start()
    look(start(small(tmp_path / "run", overlap=True)), Views(str(tmp_path / "board")))
    assert_all_metrics_are_there(tmp_path / "board" / "run" / "mean", fp.load(tmp_path / "run").metrics(), "seed >= 0")


def test_graphs_are_captured_before_another_thread_measures(tmp_path, monkeypatch):
    setup, events = start(small(tmp_path / "run", overlap=True))
    seen: list[str] = []
    prepare, measure = setup.engine.prepare, trainer.measure_group

    def noted(name, work):
        def call(*what, **how):
            seen.append(name)
            return work(*what, **how)

        return call

    monkeypatch.setattr(setup.engine, "prepare", noted("prepare", prepare))
    monkeypatch.setattr(trainer, "measure_group", noted("measure", measure))
    for _ in events:
        pass
    assert seen == ["prepare", "measure", "measure"] * 3
