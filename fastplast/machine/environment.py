"""Where a process runs: what was typed, when, at which commit, with which versions, on what hardware."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastplast.version import __version__

_PACKAGES = ("torch", "numpy", "numba", "triton", "pyarrow", "pandas", "safetensors", "scipy", "matplotlib")


def _typed(command: str | Sequence[str]) -> str:
    """A command as it was typed: with its program's name where Python puts the program's place."""
    if isinstance(command, str):
        return command
    ours = Path(command[0]).name in ("fastplast", "__main__.py")
    return shlex.join(["fastplast", *command[1:]] if ours else command)


def environment(command: str | Sequence[str] | None = None) -> dict[str, Any]:
    """Where a process runs, for ``env.json``.

    Args:
        command: what was typed; ``sys.argv`` if None.

    Returns:
        Command, time, commit and whether tracked files differ from it (None outside a checkout), versions, hardware.
    """
    from importlib import metadata

    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    root = Path(__file__).resolve().parents[2]
    git = ("git", "--no-optional-locks", "-C", str(root))
    # A repository that fastplast is merely installed in, with a virtual environment for example, is not ours.
    ours = _output(*git, "rev-parse", "--show-toplevel") == str(root)
    commit = _output(*git, "rev-parse", "--verify", "--quiet", "HEAD") if ours else ""
    return {
        "command": _typed(sys.argv if command is None else command),
        "started": now(),
        "ended": None,
        "fastplast": __version__,
        "commit": commit or None,
        "dirty": bool(_output(*git, "status", "--porcelain", "--untracked-files=no")) if commit else None,
        "versions": versions,
        "hardware": {
            "host": platform.node(),
            "system": platform.platform(),
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "gpus": _output(
                "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
            ).splitlines(),
        },
    }


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _output(*command: str) -> str:
    """What a command prints; nothing if it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _cpu_name() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
