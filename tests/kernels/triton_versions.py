"""Versions of Triton that kernels are proven with, each in a directory of its own beside the environment.

PyTorch for GPUs brings the Triton that it was built for; these are for machines without one, and leave it alone. There
is a table of budgets for each, and ``scripts/test.sh`` installs what has a table.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = {path.stem.removeprefix("triton-"): path for path in sorted((ROOT / "tests/kernels/budgets").glob("*.json"))}
OLDEST, *_, NEWEST = sorted(TABLES, key=lambda version: [int(part) for part in version.split(".")])


def environment(version: str, interpret: bool, cache: Path) -> dict[str, str]:
    """Environment of a process with that version of Triton; skips the test where it is not installed."""
    place = Path(sys.prefix, "triton", version)
    if not (place / "triton").is_dir():
        pytest.skip(f"needs Triton {version} in {place}: bash scripts/test.sh installs it")
    kept = (name for name in os.environ if name != "TRITON_INTERPRET" and not name.startswith("PYTEST_"))
    variables = {name: os.environ[name] for name in kept}
    variables |= {"PYTHONPATH": str(place), "TRITON_CACHE_DIR": str(cache)}
    return variables | ({"TRITON_INTERPRET": "1"} if interpret else {})
