"""Signals of schedulers and terminals, output that nobody takes, and what the exit status says of members."""

import os
import signal
import subprocess
import sys

import pytest

import fastplast as fp
from fastplast.cli.main import run
from fastplast.cli.signals import stopping

SMALL = ["--tasks", "2", "--epochs", "1", "--examples", "32", "--widths", "6", "5", "--srank", "off", "--threads", "1"]


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT"])
def test_a_signal_is_a_wish_to_stop(name, capfd):
    with stopping() as stop:
        assert not stop()
        signal.raise_signal(getattr(signal, name))
        assert stop()
    assert "Stopping after this epoch" in capfd.readouterr().err


def test_only_a_second_signal_by_hand_stops_at_once(capfd):
    with stopping() as stop:
        for name in ("SIGHUP", "SIGUSR1", "SIGUSR1", "SIGTERM"):
            signal.raise_signal(getattr(signal, name))
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_ends_a_sweep_at_once_while_its_rates_are_measured(tmp_path):
    words = ["sweep", "--seeds", "2", *SMALL, "--out", str(tmp_path / "s")]
    measured = "lambda plan: os.kill(os.getpid(), signal.SIGTERM) or 0.0"
    code = f"import os, signal\nfrom fastplast.sweeps import dry_run\ndry_run.seconds_if_long = {measured}\n"
    code += f"from fastplast.cli.main import run\nrun({words})"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("shell", [">/dev/full 2>&1", ">&- 2>&-"])
def test_output_that_cannot_be_written_does_not_end_training(shell, tmp_path):
    words = [sys.executable, "-m", "fastplast", "train", "--seeds", "1", *SMALL, "--out", str(tmp_path / "run")]
    done = subprocess.run(["sh", "-c", f'"$@" {shell}', "sh", *words], check=False, env=os.environ)
    assert done.returncode == 0
    assert fp.load(tmp_path / "run").is_finished


def test_the_exit_status_says_that_all_members_diverged(tmp_path, capsys):
    words = ["train", "--seeds", "2", *SMALL, "--quiet"]
    assert run([*words, "--learning-rate", "1e30", "--out", str(tmp_path / "all")]) == 3
    assert f"all 2 members diverged: {tmp_path / 'all'}" in capsys.readouterr().err
    assert run(["resume", str(tmp_path / "all")]) == 0  # nothing was trained
    assert run([*words, "--learning-rate", "1e30", "1e-3", "--out", str(tmp_path / "some")]) == 0
