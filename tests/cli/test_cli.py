"""The command line, as a user types it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from fastplast.cli.main import run

SMALL = ["--tasks", "2", "--epochs", "2", "--examples", "96", "--widths", "12", "10", "8", "--threads", "1"]


def fastplast(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fastplast", *arguments], capture_output=True, text=True)


def test_train_plot_export_and_resume_work_together(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert run(["train", "--benchmark", "mnist_shuffle", "--seeds", "2", *SMALL, "--out", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("task ") for line in lines) == 2
    assert run(["resume", out, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["plot", out, "--formats", "png"]) == 0
    assert os.path.getsize(capsys.readouterr().out.split()[-1]) > 5000
    assert run(["export", out, "--csv"]) == 0
    csv = capsys.readouterr().out.strip()
    with open(csv) as file:
        assert sum(1 for _ in file) == 1 + 2 * 2 * 2


def test_quiet_prints_nothing(tmp_path, capsys):
    assert run(["train", "--seeds", "1", *SMALL, "--quiet", "--out", str(tmp_path / "r")]) == 0
    assert capsys.readouterr() == ("", "")


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path, capsys):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"benchmark": "cifar_shuffle", "tasks": 9, "epochs": 3, "network": "mlp"}))
    assert run(["train", "--config", str(path), "--epochs", "2", "--seeds", "1", "--dry-run", "--srank", "off"]) == 0
    text = capsys.readouterr().out
    resolved = json.loads(text[: text.rindex("}") + 1])
    assert (resolved["tasks"], resolved["epochs"], resolved["network"]) == (9, 2, "mlp")


def test_dry_run_says_members_parameters_memory_and_time_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--seeds", "3", "--learning-rate", "1e-2", "1e-3", *SMALL, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "members     6 = 2 learning rates x 1 strengths x 3 seeds" in text
    assert "MiB" in text
    assert "updates/s" in text
    assert list(tmp_path.iterdir()) == []


def test_dry_run_says_how_many_members_fit_a_device(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fits = []
    for gib in ("1", "2"):
        assert run(["train", "--seeds", "1", *SMALL, "--dry-run", "--memory", gib]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fits ")]
        fits.append([int(line.split()[1].replace(",", "")) for line in lines])
        assert [f"on a device of {gib} GiB with engine {name}," in line for name, line in zip(("cpu", "cuda"), lines)]
    (cpu, cuda), (cpu2, cuda2) = fits
    assert 0 < cuda < cpu
    assert cpu2 >= 2 * cpu  # the images are there once
    assert cuda2 >= 2 * cuda


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "mnist_shufle"], "Did you mean 'mnist_shuffle'?"),
        (["--method", "waserstein"], "Did you mean 'wasserstein'?"),
        (["--batch-size", "2000"], "--batch-size must not exceed --examples"),
        (["--seeds", "0"], "--seeds must be a count of at least 1"),
        (["--method", "l2", "--strength", "-1"], "--strength must be numbers of at least 0"),
        (["--method", "l2"], "needs a --strength"),
        (["--device", "cuda", "--engine", "cpu"], "--engine cpu cannot train on --device cuda"),
        (["--examples", "100000000"], "--examples must not exceed the images of mnist"),
        (["--memory", "0", "--dry-run"], "--memory must be positive: got 0.0"),
        (["--memory", "80"], "--memory of train belongs to --dry-run"),
        (["--tf32"], "--tf32 belongs to --engine cuda: got --engine auto"),
        (["--config", "missing.json"], "--config must be a readable file"),
    ],
)
def test_bad_input_is_told_with_what_to_do(arguments, message, capsys):
    assert run(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_an_unknown_key_of_a_file_is_told_with_the_closest(tmp_path, capsys):
    path = tmp_path / "c.json"
    path.write_text('{"learning_rates": [0.1]}')
    assert run(["train", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert "Did you mean 'learning_rate'?" in error
    assert str(path) in error


def test_an_existing_directory_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert run(["train", "--seeds", "1", *SMALL, "--out", str(tmp_path)]) == 1
    assert "Choose another `--out`" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_resume_refuses_another_configuration(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert run(["train", "--seeds", "1", *SMALL, "--srank", "off", "--quiet", "--out", out]) == 0
    assert run(["resume", out, "--epochs", "5"]) == 1
    assert "epochs: 2 -> 5" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["benchmarks", "networks", "methods", "probes"])
def test_lists_have_a_line_each(what, capsys):
    assert run(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3
    assert all("  " in line for line in lines)


def test_data_status_lists_every_dataset(capsys):
    assert run(["data", "status"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("mnist", "cifar10", "fashion_mnist"))


def test_fetching_an_unknown_dataset_names_the_known(capsys):
    assert run(["data", "fetch", "minst"]) == 2
    assert "Did you mean 'mnist'?" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_epoch_and_says_how_to_go_on(tmp_path, number):
    out = str(tmp_path / "run")
    command = [sys.executable, "-m", "fastplast", "train", "--seeds", "2", "--tasks", "500", "--epochs", "2"]
    child = subprocess.Popen(
        [*command, "--examples", "64", "--widths", "8", "6", "--srank", "off", "--out", out],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("task 2/"):
            child.send_signal(number)
            break
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert f"fastplast resume {out}" in stdout
    assert "once more stops at once" in stderr


def test_the_module_and_the_console_script_answer_with_the_version():
    done = fastplast("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("fastplast 0.")
