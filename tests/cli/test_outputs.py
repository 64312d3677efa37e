"""Where outputs go: through links, into pipes, to standard output, into the home directory, and never over another."""

import csv
import io
import os
import threading

import numpy as np
import pytest
import torch
from small_runs import small

import fastplast as fp
from fastplast.cli.main import run
from fastplast.config import ConfigError, Experiment, load_config
from fastplast.drawing import write_plot
from fastplast.reports import report
from fastplast.runs.archive import write_archive
from fastplast.runs.files import write_file
from fastplast.srank_validation.cases import write_csv
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


def test_runs_of_other_networks_and_activations_have_other_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "T")

    class Net(torch.nn.Sequential):
        def __init__(self):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 10))

    base = TINY | {"seeds": 1}
    runs = [fp.train(Experiment(**base | more)) for more in ({"activation": "tanh"}, {"network": "mlp13"})]
    runs.append(fp.train(Experiment(**{name: value for name, value in base.items() if name != "widths"}), network=Net))
    assert [run.path.name for run in runs] == [
        "mnist_shuffle-none-tanh-T", "mnist_shuffle-none-mlp13-T", "mnist_shuffle-none-Net-T"
    ]  # fmt: skip


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


def test_a_hyphen_is_standard_output_of_one_picture(finished, tmp_path, capfdbinary, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (path,) = write_plot(finished, ("error",), tmp_path / "error.svg")
    words = ["plot", str(finished.path), "--columns", "error", "--out", "-"]
    assert run([*words, "--formats", "svg"]) == 0
    assert capfdbinary.readouterr().out == path.read_bytes()
    assert run(words) == 2
    assert b"--out - prints one file: got png, pdf, svg. Choose one by --formats." in capfdbinary.readouterr().err
    assert os.listdir(tmp_path) == ["error.svg"]


def test_a_hyphen_is_standard_output_of_a_validation(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["srank", "validate", str(finished.path), "--size", "60", "--out", "-"]) == 0
    rows = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert len(rows) > 4
    assert all(int(row["lo"]) <= int(row["exact"]) <= int(row["hi"]) for row in rows)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("words", [["train"], ["sweep"], ["figure", "2", "--scale", "smoke"]])
def test_a_hyphen_is_no_directory(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run([*words, "--out", "-"]) == 2
    assert f"--out of {words[0]} must be a directory: got -. Write ./- for one" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_tilde_is_the_home_directory_of_every_output(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert write_plot(finished, ("error",), "~/e.svg") == [tmp_path / "e.svg"]
    assert finished.export_csv("~/m.csv") == tmp_path / "m.csv"
    assert write_archive(finished, "~/a.parquet") == tmp_path / "a.parquet"
    assert fp.load("~/a.parquet").path == tmp_path / "a.parquet"
    assert report(finished, "~/r.html") == tmp_path / "r.html"
    assert write_csv([], "~/far/v.csv") == tmp_path / "far" / "v.csv"
    (tmp_path / "c.json").write_text('{"epochs": 3}')
    assert load_config("~/c.json") == {"epochs": 3}
    assert sorted(os.listdir(tmp_path)) == ["a.parquet", "c.json", "e.svg", "far", "m.csv", "r.html"]


def test_what_leads_nowhere_and_who_may_read_a_file_stay(finished, tmp_path):
    """A link to a file that is not there yet makes it; a file that only its owner may read is not opened to others."""
    link, secret = tmp_path / "link", tmp_path / "m.csv"
    link.symlink_to(tmp_path / "new" / "m.csv")
    assert run(["export", str(finished.path), "--out", str(link)]) == 0
    assert link.is_symlink()
    assert (tmp_path / "new" / "m.csv").stat().st_size > 100
    secret.touch(mode=0o600)
    assert run(["export", str(finished.path), "--out", str(secret)]) == 0
    assert secret.stat().st_mode & 0o777 == 0o600
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "to_pipe").symlink_to(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    assert run(["export", str(finished.path), "--out", str(tmp_path / "to_pipe")]) == 0
    reader.join()
    assert found == [secret.read_bytes()]
    assert pipe.is_fifo()
