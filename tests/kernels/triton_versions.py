"""Versions of Triton that kernels are proven with, each in a directory of its own beside the environment.

PyTorch for GPUs brings the Triton that it was built for; these are for machines without one, and leave it alone. There
is a table of budgets for each. ``scripts/test.sh`` installs the newest, and another one where the kernels are no longer
those that its table was written from: there is then something to prove.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = {path.stem.removeprefix("triton-"): path for path in sorted((ROOT / "tests/kernels/budgets").glob("*.json"))}
OLDEST, *_, NEWEST = sorted(TABLES, key=lambda version: [int(part) for part in version.split(".")])


@cache
def digest_of_sources() -> str:
    """What the kernels are."""
    command = [sys.executable, "scripts/kernel_budgets.py", "--sources"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def environment(version: str, interpret: bool, cache: Path) -> dict[str, str]:
    """Environment of a process with that version of Triton; skips the test without it, or if it was run already."""
    if version != NEWEST and TABLES[version].with_suffix(".sources").read_text() == digest_of_sources():
        pytest.skip(f"the kernels are those that the table of Triton {version} was written from")
    place = Path(sys.prefix, "triton", version)
    if not (place / "triton").is_dir():
        pytest.skip(f"needs Triton {version} in {place}: bash scripts/test.sh installs it")
    kept = (name for name in os.environ if name != "TRITON_INTERPRET" and not name.startswith("PYTEST_"))
    variables = {name: os.environ[name] for name in kept}
    variables |= {"PYTHONPATH": str(place), "TRITON_CACHE_DIR": str(cache)}
    return variables | ({"TRITON_INTERPRET": "1"} if interpret else {})
