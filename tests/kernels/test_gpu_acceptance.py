"""The script that proves kernels on a GPU: its steps end and fail by themselves; all but launching is done here."""

import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
from triton_versions import NEWEST, ROOT, environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script")

STEPS = {
    "quick": ["environment", "measurements", "ten-tests"],
    "full": ["environment", "tests", "experiment"],
    "profile": ["environment", "ncu", "memcheck", "racecheck", "torch-peers", "jax-peers"],
}
BARE = ("platformdirs", "pooch", "nvtx", "plotly", "rich", "matplotlib", "PIL")  # what a GPU machine may lack
# The interpreter of every step: some fail, each kind in its way, one hangs with a child, others write results.
PLAYED = """\
#!{python}
import json, os, subprocess, sys, time
words = " ".join(sys.argv[1:])
if "gpu_acceptance.py" in words:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
if "bench_scale" in words and "torch.func" in words:
    print("before")
    raise RuntimeError("CUDA error: an illegal memory access was encountered")
if "gpu_profiled" in words:
    sys.exit("no profiler")
if "pytest" in words and "bench_scale" not in words:
    os.kill(os.getpid(), 11)
if "gpu_experiment" in words:
    child = subprocess.Popen(["sleep", "600"])
    open({child!r}, "w").write(str(child.pid))
    time.sleep(600)
outputs = [word for word in sys.argv if word.endswith(".json")]
for output in outputs:
    open(output, "w").write(json.dumps({{"directory": "here", "found": 1}}))
"""


def accept(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    command = ["bash", "scripts/gpu_acceptance.sh", *arguments]
    chosen = {"PYTHON": sys.executable} | variables
    return subprocess.run(command, cwd=ROOT, env=chosen, capture_output=True, text=True)


def rows_of(directory: Path, mode: str) -> dict[str, dict]:
    summary = json.loads((directory / f"{mode}.json").read_text())
    return {row["step"]: row for row in summary["steps"]}


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which packages are missing, and so are git and all that is not in /bin of a small machine."""
    folder = tmp_path / "bare"
    folder.mkdir()
    lines = ["import sys", f"BARE = {BARE!r}", "class Missing:"]
    lines += ["    def find_spec(self, name, path=None, target=None):"]
    lines += ["        if name.partition('.')[0] in BARE:", "            raise ModuleNotFoundError(name=name)"]
    lines += ["sys.meta_path.insert(0, Missing())"]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    return {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}


@pytest.fixture
def played(tmp_path: Path) -> str:
    path = tmp_path / "python"
    path.write_text(PLAYED.format(python=sys.executable, child=str(tmp_path / "child")))
    path.chmod(0o755)
    return str(path)


def test_steps_fail_and_hang_by_themselves(played, tmp_path):
    out = tmp_path / "results"
    done = accept("--dry-run", "--most", "5", OUT=str(out), PYTHON=played, PATH=os.environ["PATH"])
    assert done.returncode == 1
    assert len(list(out.iterdir())) <= 8
    found = {mode: rows_of(out, mode) for mode in STEPS}
    assert {mode: list(rows) for mode, rows in found.items()} == STEPS
    for row in (row for rows in found.values() for row in rows.values()):
        assert (f"{row['step']}: {row['status']}" in done.stderr) == (row["status"] not in ("passed", "left out"))
    assert found["quick"]["measurements"] | {"seconds": 0} == {
        "step": "measurements", "status": "passed", "seconds": 0, "error": "",
        "results": {"directory": "here", "found": 1},
    }  # fmt: skip
    assert found["quick"]["ten-tests"]["error"] == "ended by signal 11"
    assert found["full"]["experiment"]["status"] == "ended at its limit"
    assert found["profile"]["ncu"]["error"] == "no profiler"
    expected = "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert found["profile"]["torch-peers"]["error"] == expected
    assert found["profile"]["jax-peers"]["status"] in ("passed", "left out")  # JAX may be missing
    with tarfile.open(out / "profile.tar.gz") as archive:
        logs = {name for name in archive.getnames() if name.endswith(".log")}
        assert {"environment.log", "ncu.log", "memcheck.log", "racecheck.log", "torch-peers.log"} <= logs
    assert not lives((tmp_path / "child").read_text())  # what a step had started ended with it


def lives(process: str) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", process], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def test_a_step_ends_with_the_script_even_if_that_is_killed(played, tmp_path):
    command = [played, "scripts/gpu_acceptance.py", "--full", "--dry-run", "--only", "experiment", str(tmp_path)]
    child, where = tmp_path / "child", os.environ | {"PYTHON": played}
    with subprocess.Popen(command, cwd=ROOT, env=where, stdout=subprocess.DEVNULL) as script:
        while script.poll() is None and not (child.exists() and child.read_text()):
            time.sleep(0.01)
        script.kill()
    deadline = time.monotonic() + 60
    while lives(child.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lives(child.read_text())


def test_time_that_is_over_leaves_steps_that_were_not_run(played, tmp_path):
    """...of which the summary tells."""
    script = "import gpu_acceptance as script; script.MODES['full'] = 0; script.main()"
    where = {"PYTHONPATH": str(ROOT / "scripts"), "PYTHON": played, "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", script, "--full", str(tmp_path / "results")]
    assert subprocess.run(command, env=where, capture_output=True).returncode == 1
    rows = rows_of(tmp_path / "results", "full")
    assert {row["status"] for row in rows.values()} == {"not run"}
    assert "are over" in rows["tests"]["error"]


def test_nothing_is_needed_that_a_gpu_machine_lacks(bare, tmp_path):
    """A cache and data have a place, and the steps begin, without packages beyond PyTorch's and without git."""
    code = "from fastplast.data.local import data_dir; from fastplast_kernels.compilation import cache_directory"
    code += "; print(data_dir()); print(cache_directory()); import fastplast, fastplast.api, fastplast.training.loop"
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data, cache = done.stdout.split()
    assert data == str(tmp_path / "fastplast")
    assert Path(cache).parent == tmp_path / "fastplast"
    output = tmp_path / "environment.json"
    triton = tmp_path / "triton"
    triton.mkdir()
    (triton / "__init__.py").write_text("__version__ = '3.6.0'")
    where = bare | {"PYTHONPATH": f"{bare['PYTHONPATH']}{os.pathsep}{tmp_path}", "PATH": ""}
    command = [sys.executable, "scripts/gpu_environment.py", "--dry-run", str(output)]
    done = subprocess.run(command, cwd=ROOT, env=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(output.read_text())["commit"] is None


def test_updates_are_compared_and_timed_without_what_a_gpu_machine_lacks(bare, tmp_path):
    variables = environment(NEWEST, True, tmp_path / "cache")
    variables |= {"PYTHONPATH": f"{bare['PYTHONPATH']}{os.pathsep}{variables['PYTHONPATH']}"}
    found = {"compared, cnn": "difference in the change", "engine": "us of an update", "experiment": "median error"}
    for kind, name in found.items():
        output = tmp_path / "measurements.json"
        command = [sys.executable, "bench/gpu_quick.py", "--dry-run", "--only", kind, str(output)]
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (line,) = json.loads(output.read_text())["lines"]
        assert line[name] >= 0
    command = [sys.executable, "bench/gpu_profiled.py", "--help"]
    assert subprocess.run(command, cwd=ROOT, env=variables, capture_output=True).returncode == 0


def test_the_ten_tests_and_those_of_the_sanitizer_exist(tmp_path):
    sys.path.insert(0, str(ROOT / "scripts"))
    import gpu_steps

    variables = environment(NEWEST, False, tmp_path)
    command = [sys.executable, "-m", "pytest", gpu_steps.GPU_TESTS, "--collect-only", "-q"]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    names = [line for line in done.stdout.splitlines() if "::" in line]
    for expression in (*gpu_steps.TEN, *gpu_steps.CHECKED, *gpu_steps.SMALLEST):
        chosen = [name for name in names if all(word in name for word in expression.split(" and "))]
        assert len(chosen) == 1, f"{expression}: {chosen}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_dry_run_measures_and_tests_without_what_a_gpu_machine_lacks(bare, tmp_path):
    variables = environment(NEWEST, False, tmp_path / "cache")
    variables |= bare | {"PYTHONPATH": f"{bare['PYTHONPATH']}{os.pathsep}{variables['PYTHONPATH']}"}
    out = tmp_path / "results"
    done = accept("--quick", "--dry-run", str(out), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(out, "quick")
    assert rows["environment"]["results"]["triton"] == NEWEST
    lines = rows["measurements"]["results"]["lines"]
    assert not any("error" in line for line in lines)
    kinds = {line["line"].split(",")[0] for line in lines}
    assert kinds == {"rates", "compared", "replay", "engine", "vmap eager", "vmap graph", "targets", "experiment"}


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
