"""Writes what a GPU acceptance run ran on, or says in one sentence what the machine lacks (exit status 3)."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

LACKS = 3  # exit status
PACKAGES = (
    "torch", "triton", "numpy", "numba", "pandas", "pyarrow", "scipy", "safetensors", "pytest", "pytest-xdist",
    "pytest-benchmark", "hypothesis", "jax", "cupy-cuda13x", "nvtx",
)  # fmt: skip
PROGRAMS = ("nvidia-smi", "ncu", "compute-sanitizer", "gcc", "git")


def told(*command: str) -> str | None:
    """What a program prints, None where it is missing, fails or does not end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def version_of(package: str) -> str | None:
    """Installed version, None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing(dry_run: bool) -> str | None:
    """What nothing of the run can do without, in a sentence."""
    for package in ("torch", "triton", "numpy", "pytest"):
        if importlib.util.find_spec(package) is None:
            return f"{package} must be installed: {sys.executable} has none. Set PYTHON to an interpreter that has it."
    import torch

    if dry_run:
        return None
    if torch.version.cuda is None:
        return f"torch must be built for CUDA: got {torch.__version__}. --dry-run runs without a GPU."
    if not torch.cuda.is_available():
        return "torch finds no usable CUDA device: check nvidia-smi. --dry-run runs without a GPU."
    return None


def found(dry_run: bool) -> dict[str, Any]:
    """The device, its driver, and the versions of what runs on it."""
    import torch
    import triton

    name = "dry run" if dry_run else torch.cuda.get_device_name()
    device = {} if dry_run else torch.cuda.get_device_properties(0)
    return {
        "device": name,
        "directory": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "capability": None if dry_run else list(torch.cuda.get_device_capability()),
        "properties": str(device) if device else None,
        "nvidia-smi": told(
            "nvidia-smi", "--format=csv,noheader",
            "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu",
        ),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "programs": {name: shutil.which(name) for name in PROGRAMS},
        "commit": told("git", "rev-parse", "HEAD"),
        "dry_run": dry_run,
    }  # fmt: skip


def main() -> None:
    """Checks and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    reason = missing(arguments.dry_run)
    if reason is not None:
        print(reason, file=sys.stderr)
        sys.exit(LACKS)
    environment = found(arguments.dry_run)
    arguments.output.write_text(json.dumps(environment, indent=1) + "\n")
    print(json.dumps(environment, indent=1))
    for name, least in {"torch": (2, 11), "triton": (3, 6)}.items():
        if tuple(int(part) for part in re.findall(r"\d+", environment[name])[:2]) < least:
            sys.exit(f"{name} {least[0]}.{least[1]} or newer is needed: got {environment[name]}.")


if __name__ == "__main__":
    main()
