"""The tests of the GPU kernels hold in Triton's interpreter, which needs a process of its own."""

import subprocess
import sys

import pytest
from triton_versions import NEWEST, ROOT, environment


@pytest.mark.slow
def test_gpu_kernels_are_right_in_the_interpreter(tmp_path):
    command = [sys.executable, "-m", "pytest", "tests/kernels/gpu", "-q", "-p", "no:cacheprovider"]
    variables = environment(NEWEST, True, tmp_path)
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "skipped" not in result.stdout
