"""Compiles for a GPU of capability 9.0, on a machine without one, what tests and benches launch there, and packs it.

Triton finds a compiled kernel by its source, the versions of Triton and of its library, the target and how the launch
is specialised. So the launches themselves are made, those of `gpu_quick` and those of the tests, with a stand-in for
the driver: kernels and their launchers are compiled, nothing is loaded or launched, and nothing is asserted.

Run it with the versions of Python and Triton of the machine with the GPU, for the library is of both:
``PYTHON scripts/gpu_kernel_cache.py``. ``gpu_acceptance.sh`` unpacks the archive where it was made, because it holds
absolute paths. A kernel that is not in it, or of another version, is compiled there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from gpu_acceptance import KERNELS, ROOT, prepared

FOLDER = Path("/tmp/fastplast-gpu-kernels")
KEPT = {".cubin", ".json", ".so"}  # the others are what a kernel was before it was machine code
CAPABILITY = 90


def stand_in() -> None:
    """Lets Triton find a GPU, and its launches only compile."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia import driver as nvidia
    from triton.runtime import build, driver
    from triton.runtime.jit import JITFunction

    subprocess.run(["gcc", "-shared", "-xc", "/dev/null", "-o", FOLDER / "libcuda.so.1"], check=True)  # to link with
    triton.knobs.nvidia.libcuda_path = str(FOLDER)
    build._load_module_from_path = lambda *_: MagicMock()
    nvidia.CudaUtils()
    active: Any = SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda device=None: 0,
        get_current_target=lambda: GPUTarget("cuda", CAPABILITY, 32),
    )
    driver.set_active(active)
    run = JITFunction.run

    def compile_only(self: Any, *values: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *values, grid=grid, warmup=True, **options)
        if kernel._run is None:
            kernel._run = nvidia.CudaLauncher(kernel.src, kernel.metadata)
        return kernel

    JITFunction.run = compile_only


def launch_benches() -> None:
    """The launches of `gpu_quick` and `gpu_profiled`.

    Members are 30 or 1: other numbers that 16 does not divide are specialised as 30 is.
    """
    sys.path.insert(0, str(ROOT / "bench"))
    from fastplast_kernels.train_step import training
    from gpu_replay import Replay, setup_of

    shapes = [("mlp", members, method) for members in (30, 1) for method in ("none", "regenerative", "wasserstein")]
    for network, members, method in [*shapes, ("cnn", 30, "none")]:
        for updates in (80, 3):
            replay = Replay(setup_of(network, 1, method, small=False), members, updates)
            replay.begin()
            replay.run()
            training.finish(replay.step)


class CompileOnly:
    """A plugin of pytest: tests of the GPU run on the CPU, to their ends whatever they find."""

    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> str | None:
        """Their device is the CPU."""
        if fixturedef.argname != "device":
            return None
        fixturedef.cached_result = ("cpu", fixturedef.cache_key(request), None)
        return "cpu"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """None is skipped for want of a GPU."""
        for item in items:
            item.own_markers = [mark for mark in item.own_markers if mark.name != "skip"]


def launch_tests(chosen: str) -> None:
    """The launches of the tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    import assertions

    for name in ("assert_close", "assert_same_bits"):
        setattr(assertions, name, lambda *_, **__: None)
    options = [
        "-c",
        os.environ["FASTPLAST_PYTEST_INI"],
        "--rootdir",
        str(ROOT),
        "-p",
        "no:cacheprovider",
        "-q",
        "--tb=no",
    ]
    options += ["--assert=plain", "-m", "gpu", str(ROOT / "tests/kernels/gpu"), *(["-k", chosen] if chosen else [])]
    pytest.main(options, plugins=[CompileOnly()])


def pack() -> dict[str, Any]:
    """Packs what a launch needs; says how much that is."""
    files = [path for path in sorted(FOLDER.rglob("*")) if path.suffix in KEPT]
    KERNELS.parent.mkdir(exist_ok=True)
    with tarfile.open(KERNELS, "w:gz") as archive:
        archive.add(FOLDER, recursive=False)
        for path in files:
            archive.add(path)
    counts = Counter(path.suffix for path in files)
    size = sum(path.stat().st_size for path in files)
    packed = KERNELS.stat().st_size
    return {"kernels": counts[".cubin"], "launchers": counts[".so"], "MB": size / 1e6, "MB packed": packed / 1e6}


def main() -> None:
    """Compiles in a process without assertions, packs, and prints how much that was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", default="", help="of the tests, those that pytest -k chooses by this")
    parser.add_argument("--launch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.launch:
        stand_in()
        launch_benches()
        launch_tests(arguments.tests)
        return
    begun = time.monotonic()
    KERNELS.unlink(missing_ok=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ["TRITON_CACHE_DIR"] = str(FOLDER)
    with prepared():
        again = [sys.executable, "-O", __file__, "--launch", "--tests", arguments.tests]
        subprocess.run(again, cwd=ROOT, check=True)
    print(json.dumps(pack() | {"seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main()
