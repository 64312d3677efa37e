"""The script that proves kernels on a GPU takes every step here but the launch on one."""

import json
import os
import subprocess
import sys

import pytest
import torch
from triton_versions import NEWEST, ROOT, environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script")


def accept(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    command = ["bash", "scripts/gpu_acceptance.sh", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables | {"PYTHON": sys.executable}, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_dry_run_tests_times_and_writes(tmp_path):
    done = accept("--dry-run", str(tmp_path / "results"), **environment(NEWEST, False, tmp_path / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    written = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    assert set(written) == {
        "environment.json", "tests.txt", "wasserstein.json", "scale.json", "scale.txt", "README.md",
        "experiment.json", "experiment.md",
    }  # fmt: skip
    assert json.loads(written["environment.json"])["triton"] == NEWEST
    assert " passed" in written["tests.txt"]
    assert "skipped" not in written["tests.txt"]
    results = json.loads(written["wasserstein.json"])
    assert results["dry_run"]
    assert set(results["members"]["2"]) == {
        "update with pull", "update, insert, ranks", "spilled weights of the last step", "torch.sort and scatter",
    }  # fmt: skip
    timed = json.loads(written["scale.json"])["benchmarks"]
    assert {b["params"]["network"] for b in timed if "network" in b["params"]} == {"mlp", "cnn"}
    assert {b["params"]["method"] for b in timed} == {"none", "wasserstein", "exact", "auto"}
    assert "skipped" not in written["scale.txt"]
    experiment = json.loads(written["experiment.json"])
    assert experiment["same"]
    assert len(experiment["tasks"]) == 2
    assert "| task |" in written["experiment.md"]


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs a torch without CUDA")
def test_a_machine_without_cuda_is_told_what_it_lacks(tmp_path):
    done = accept(str(tmp_path), **environment(NEWEST, False, tmp_path))
    assert done.returncode != 0
    assert "torch must be built for CUDA: got " in done.stderr
    assert "--dry-run" in done.stderr


def test_a_machine_without_triton_is_told_what_it_lacks(tmp_path):
    if subprocess.run([sys.executable, "-c", "import triton"], capture_output=True).returncode == 0:
        pytest.skip("needs an environment without Triton")
    done = accept("--dry-run", str(tmp_path), **os.environ)
    assert done.returncode != 0
    assert "triton must be installed: " in done.stderr
