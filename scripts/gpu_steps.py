"""The steps of a GPU acceptance run: what is run, for how long at most, and where it writes what it measured."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MODES = {"quick": 180, "full": 240, "profile": 240}  # seconds at most on a GPU
GPU_TESTS = "tests/kernels/gpu"
TEN = (  # what would break first, one test each
    "two_hundred_updates and [relu-adam]", "graphs_have_the_same_bits", "engine_cuda and same_bits_alone",
    "diverging_member_is_frozen", "mlp_step and full_size_tiles", "conv_step and full_size_network",
    "targets_equal and [100352]", "map_of_any_other", "mlp_step and after_an_update_targets",
    "engine_conv and trains_as and [cnn",
)  # fmt: skip
SMALLEST = ("mlp_step and strength_0",)  # in Triton's interpreter
CHECKED = ("mlp_step and full_size_tiles", "layers_of_different_lengths and [1]")  # by compute-sanitizer
PEERS = {"torch-peers": "torch.func", "jax-peers": "JAX"}


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: of the step and its log.
        seconds: at most.
        command: program and arguments.
        results: name of the JSON that it writes beside its log, if it does.
        variables: of its environment, beside those of the run.
        packages: that it needs.
        programs: that it needs.
        shown: lines at the end of its log that are printed.
    """

    name: str
    seconds: float
    command: Sequence[str]
    results: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    shown: int = 12


def missing(step: Step) -> str | None:
    """What a step needs and the machine lacks, in words."""
    for package in step.packages:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    for program in step.programs:
        if shutil.which(program) is None:
            return f"{program} is not on the PATH"
    return None


def python(*arguments: str) -> list[str]:
    """A command of the interpreter that the run was given."""
    return [os.environ.get("PYTHON") or sys.executable, *arguments]


def pytest(*arguments: str) -> list[str]:
    """A command of pytest that needs none of the plugins of the project's own configuration."""
    common = ["-c", os.environ["FASTPLAST_PYTEST_INI"], "--rootdir", ".", "-p", "no:cacheprovider", "-q"]
    return python("-m", "pytest", *common, *arguments)


def gpu_tests(chosen: Sequence[str] = (), processes: int = 1) -> list[str]:
    """A command of the tests of the kernels and the engine: all, or what any of some expressions chooses."""
    spread = ["-n", str(processes)] if processes > 1 and importlib.util.find_spec("xdist") else []
    words = ["-k", " or ".join(f"({expression})" for expression in chosen)] if chosen else []
    return pytest("-m", "gpu", GPU_TESTS, "--tb=short", "--durations=10", *spread, *words)


def steps_of(mode: str, work: Path, dry_run: bool) -> list[Step]:
    """The steps of a mode in order.

    Args:
        mode: one of `MODES`.
        work: the folder for logs and results.
        dry_run: on a CPU, and small.

    Returns:
        The steps.
    """
    dry = ["--dry-run"] if dry_run else []
    environment = Step(
        "environment", 40, python("scripts/gpu_environment.py", *dry, str(work / "environment.json")),
        "environment.json", shown=30,
    )  # fmt: skip
    return [environment, *{"quick": _quick, "full": _full, "profile": _profile}[mode](work, dry)]


def _quick(work: Path, dry: list[str]) -> Iterator[Step]:
    command = python("bench/gpu_quick.py", *dry, str(work / "measurements.json"))
    yield Step("measurements", 140, command, "measurements.json", shown=60)
    yield Step("ten-tests", 60, gpu_tests(*((SMALLEST, 1) if dry else (TEN, 5))), shown=25)


def _full(work: Path, dry: list[str]) -> Iterator[Step]:
    yield Step("tests", 160, gpu_tests(*((SMALLEST, 1) if dry else ((), 8))), shown=40)
    command = python("bench/gpu_experiment.py", "--tasks", "2", *dry, str(work / "experiment.json"))
    yield Step("experiment", 100, command, "experiment.json", packages=("pandas", "pyarrow", "safetensors", "scipy"))


def _profile(work: Path, dry: list[str]) -> Iterator[Step]:
    """Tools are left out of a dry run; what they would look at runs by itself."""
    report = str(work / "kernels.ncu-rep")
    ncu = ["ncu", "--clock-control", "none", "--set", "full", "--profile-from-start", "off", "--export", report]
    profiled = python("bench/gpu_profiled.py", *dry)
    yield Step("ncu", 80, profiled if dry else [*ncu, *profiled], programs=() if dry else ("ncu",))
    if not dry:
        raw = f"ncu --import '{report}' --csv --page raw >'{work / 'kernels.csv'}'"
        yield Step("ncu-report", 30, ["bash", "-c", raw], programs=("ncu",))
    for tool in ("memcheck", "racecheck"):
        checked = gpu_tests(SMALLEST if dry else CHECKED)
        sanitizer = ["compute-sanitizer", "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "1"]
        yield Step(
            tool, 70, checked if dry else [*sanitizer, *checked], variables={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
            programs=() if dry else ("compute-sanitizer",),
        )  # fmt: skip
    where = {"FASTPLAST_BENCH_DEVICE": "cpu", "FASTPLAST_BENCH_MEMBERS": "1"} if dry else {
        "FASTPLAST_BENCH_DEVICE": "cuda", "FASTPLAST_BENCH_MEMBERS": "30", "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }  # fmt: skip
    for name, words in PEERS.items():
        bench = ["-rs", "-o", "python_files=bench_*.py", "bench/bench_scale.py", "--benchmark-only", "-k", words]
        command = pytest(*bench, "--benchmark-json", str(work / f"{name}.json"))
        needs = ("pytest_benchmark", "jax") if name == "jax-peers" else ("pytest_benchmark",)
        yield Step(name, 60, command, f"{name}.json", variables=where, packages=needs, shown=25)
