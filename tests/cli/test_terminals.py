"""Terminals and names of files of every kind: none of them ends training."""

import os
import subprocess
import sys

import numpy as np
import pytest
from small_runs import small

import fastplast as fp
from fastplast.drawing import write_plot

OPTIONS = [
    "--seeds",
    "1",
    "--tasks",
    "2",
    "--epochs",
    "1",
    "--examples",
    "12",
    "--batch-size",
    "6",
    "--widths",
    "5,4,4",
]
OPTIONS += ["--engine", "vmap", "--srank", "off"]
TINY = {"examples": 12, "tasks": 2, "epochs": 1, "batch_size": 6, "srank": "off", "widths": (5, 4, 4), "engine": "vmap"}


def train(tmp_path, name: bytes, shell: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable.encode(), b"-m", b"fastplast", b"train", *map(str.encode, OPTIONS), b"--out", name]
    return subprocess.run([b"sh", b"-c", f'"$@" {shell}'.encode(), b"sh", *command], cwd=tmp_path, capture_output=True,
                          env=os.environ | environment, timeout=120, check=False)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shell", "environment"),
    [
        (b"caf\xc3\xa9", "", {"PYTHONIOENCODING": "ascii:strict"}),
        (b"raw\xff", "", {"PYTHONIOENCODING": "utf-8:strict"}),
        (b"closed", ">&-", {}),
    ],
    ids=["ascii", "bytes", "no-output"],
)
def test_a_terminal_or_a_name_does_not_end_training(name, shell, environment, tmp_path):
    done = train(tmp_path, name, shell, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    assert fp.load(path).is_finished


def test_a_reader_that_has_gone_does_not_end_training(tmp_path):
    command = [sys.executable, "-m", "fastplast", "train", *OPTIONS, "--out", "r"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=120)
    assert fp.load(tmp_path / "r").is_finished


def test_data_whose_name_is_no_text_are_trained_on(tmp_path):
    name = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff.npz"))
    np.savez(name, images=np.zeros((12, 3, 3), np.uint8), labels=np.arange(12) % 3)
    run = fp.train(small(tmp_path / "r", **TINY | {"dataset": name}))
    assert {*run.metrics().dataset} == {f"{tmp_path}/\\udcff.npz"}
    assert fp.resume(run.path).is_finished


@pytest.mark.parametrize("name", [r"bad$\frac$x", "one$", r"a\$b$c$"])
def test_a_dollar_in_a_name_is_no_formula(name, tmp_path):
    run = fp.train(small(tmp_path / name, **TINY))
    other = fp.train(small(tmp_path / "other", **TINY | {"learning_rate": 0.1}))
    (path,) = write_plot([run, other], ["error"], out=tmp_path / "f.svg")
    assert path.stat().st_size > 1000
