"""The tests of the GPU kernels hold in Triton's interpreter, which needs processes of its own."""

import subprocess
import sys

import pytest
from triton_versions import NEWEST, OLDEST, ROOT, environment

FILES = sorted(map(str, (ROOT / "tests/kernels/gpu").glob("test_*.py")))
STEP = [name for name in FILES if "mlp_step" in name or "wasserstein" in name]  # half of the time


def check_in_interpreter(files, version, cache):
    command = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(version, True, cache), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)  # all tests of half of the files, on cores that others may use
@pytest.mark.parametrize("files", [STEP, [name for name in FILES if name not in STEP]], ids=["step", "others"])
def test_gpu_kernels_are_right_in_the_interpreter(files, tmp_path):
    check_in_interpreter(files, NEWEST, tmp_path)


@pytest.mark.slow
def test_kernels_run_unmodified_in_the_oldest_interpreter(tmp_path):
    check_in_interpreter(["tests/kernels/gpu/test_mlp_step_account.py"], OLDEST, tmp_path)
