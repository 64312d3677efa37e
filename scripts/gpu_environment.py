"""Writes what a GPU acceptance run ran on, or says in one sentence what the machine lacks."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import subprocess
import sys
from pathlib import Path


def release(version: str) -> tuple[int, ...]:
    """Leading numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def main() -> None:
    """Checks and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    for package in ("torch", "triton", "numpy", "pytest"):
        if importlib.util.find_spec(package) is None:
            sys.exit(
                f"{package} must be installed: {sys.executable} has none. Set PYTHON to an interpreter that has it."
            )

    import torch
    import triton

    if release(torch.__version__) < (2, 11) or release(triton.__version__) < (3, 6):
        sys.exit(
            f"torch 2.11 and Triton 3.6 or newer are needed: got torch {torch.__version__} and "
            f"Triton {triton.__version__}."
        )
    if not arguments.dry_run:
        if torch.version.cuda is None:
            sys.exit(f"torch must be built for CUDA: got {torch.__version__}. --dry-run runs without a GPU.")
        if not torch.cuda.is_available():
            sys.exit("torch finds no usable CUDA device: check nvidia-smi. --dry-run runs without a GPU.")
    name = "Triton's interpreter" if arguments.dry_run else torch.cuda.get_device_name()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    found = {
        "device": name,
        "directory": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "capability": None if arguments.dry_run else list(torch.cuda.get_device_capability()),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
        "dry_run": arguments.dry_run,
    }
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
