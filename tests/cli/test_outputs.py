"""Where outputs go: through links, into pipes, to standard output, into the home directory, and never over another."""

import os
import threading

import numpy as np
import pytest
import torch
from small_runs import small

import fastplast as fp
from fastplast.cli.main import run
from fastplast.config import ConfigError, Experiment
from fastplast.runs.files import write_file
from fastplast.sweeps import grid_of
from fastplast.sweeps.grid import expand
from fastplast.training.start import start

TINY = {"examples": 12, "tasks": 1, "epochs": 1, "batch_size": 6, "srank": "off", "widths": (5, 4, 4), "engine": "vmap"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fp.train(small(tmp_path_factory.mktemp("run") / "a", **TINY))


@pytest.mark.parametrize("command", ["export", "report"])
def test_a_link_stays_one_and_its_target_is_written(command, finished, tmp_path, capsys):
    target, link, chain = tmp_path / "far" / "target", tmp_path / "link", tmp_path / "chain"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    chain.symlink_to(link)
    assert run([command, str(finished.path), "--out", str(chain)]) == 0
    assert link.is_symlink()
    assert chain.is_symlink()
    assert target.stat().st_size > 100
    assert sorted(os.listdir(tmp_path)) == ["chain", "far", "link"]


def test_a_pipe_is_written_into_and_stays_one(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, iter([b"one ", b"two"]))
    reader.join()
    assert found == [b"one two"]
    assert pipe.is_fifo()


def test_a_hyphen_is_standard_output(finished, tmp_path, capfdbinary, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished.export_csv(tmp_path / "m.csv")
    assert run(["export", str(finished.path), "--out", "-"]) == 0
    assert capfdbinary.readouterr().out == (tmp_path / "m.csv").read_bytes()
    assert run(["report", str(finished.path), "--out", "-"]) == 0
    assert b"<html" in capfdbinary.readouterr().out
    assert os.listdir(tmp_path) == ["m.csv"]


def test_a_tilde_is_the_home_directory(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fp.train(small("~/run", **TINY)).path == tmp_path / "run"
    assert fp.load("~/run").is_finished
    grid = TINY | {"widths": [5, 4, 4], "seeds": 1}
    assert fp.sweep(grid, "~/sweep").path == tmp_path / "sweep"
    finished.export_csv("~/m.csv")
    assert sorted(os.listdir(tmp_path)) == ["m.csv", "run", "sweep"]


def test_runs_of_one_second_have_directories_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20260101-000000")
    runs = [fp.train(Experiment(**TINY, seeds=1)) for _ in range(3)]
    names = [run.path.name for run in runs]
    assert names == [f"mnist_shuffle-none-20260101-000000{more}" for more in ("", "-2", "-3")]


def test_a_run_that_this_process_writes_is_said_to_be_its_own(tmp_path):
    _, events = start(small(tmp_path / "r", **TINY))
    next(events)
    with pytest.raises(OSError, match="That is this process: consume the events"):
        fp.resume(tmp_path / "r")
    events.close()
    assert fp.resume(tmp_path / "r").is_finished


@pytest.mark.parametrize(
    "rates", [np.logspace(-4, -2, 3), torch.logspace(-4, -2, 3, dtype=torch.float64), [*np.logspace(-4, -2, 3)]]
)
def test_numbers_of_numpy_and_torch_are_numbers(rates):
    grid = {"learning_rate": rates, "seeds": np.arange(2), "widths": np.array([5, 4, 4]), "epochs": np.int64(3)}
    plain = {"learning_rate": np.logspace(-4, -2, 3).tolist(), "seeds": [0, 1], "widths": [5, 4, 4], "epochs": 3}
    assert expand(grid_of(grid)) == expand(grid_of(plain))
    assert Experiment(**grid) == Experiment(**plain)
    assert Experiment(**grid).to_dict() == Experiment(**plain).to_dict()
    assert Experiment(seeds=range(2, 5)).seeds == (2, 3, 4)
    with pytest.raises(ConfigError, match="--epochs must be a whole number"):
        Experiment(epochs=np.float64(2.5))
