"""What was asked of a sweep directory: the crosses of its grids, so that the directory alone says what is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastplast.config import MACHINE_FIELDS, TAKES_STRENGTH, ConfigError
from fastplast.config.errors import shown
from fastplast.runs.files import locked, write_file
from fastplast.runs.reading import check_keys, read_json, reading
from fastplast.sweeps.grid import Grid, grid_of

FILE = "grid.json"


def add_request(directory: Path, grid: Grid) -> None:
    """Adds the crosses of a grid to those that were asked of a directory before; the machine's fields are the last.

    Args:
        directory: of the sweep.
        grid: its crosses.
    """
    if _with_crosses(directory, grid) != _asked(directory):
        with locked(directory):
            now = _with_crosses(directory, grid)
            write_file(directory / FILE, (json.dumps(now, indent=2) + "\n").encode())


def _asked(directory: Path) -> dict[str, Any]:
    return _read(directory / FILE) if (directory / FILE).exists() else {"machine": {}, "crosses": []}


def _with_crosses(directory: Path, grid: Grid) -> dict[str, Any]:
    crosses: list[dict[str, Any]] = list(_asked(directory)["crosses"])
    machine: dict[str, Any] = {}
    for cross in json.loads(json.dumps([dict(cross.values) for cross in grid], default=str)):
        machine |= {name: cross.pop(name) for name in MACHINE_FIELDS if name in cross}
        if cross not in crosses:
            crosses.append(cross)
    return {"machine": machine, "crosses": crosses}


def read_request(directory: str | os.PathLike, machine: Mapping[str, Any] | None = None) -> Grid:
    """Everything that was ever asked of a directory.

    Args:
        directory: of the sweep.
        machine: fields that say where and how it is trained, or the number of tasks, in place of those that were
            given.

    Returns:
        Its crosses.

    Raises:
        ConfigError: if the directory does not hold its grid, or a method in it is unknown to this process.
    """
    path = Path(directory) / FILE
    if not path.exists():
        raise ConfigError(
            f"a sweep must hold its {FILE} to be resumed: got {directory}, which holds none. "
            f"Give the grid again: fastplast sweep ... --out {directory}."
        )
    kept = _read(path)
    for cross in kept["crosses"]:
        named = cross.get("method", "none")
        for method in named if isinstance(named, list) else [named]:
            if isinstance(method, str) and method not in TAKES_STRENGTH:
                name = shown(method)
                raise ConfigError(
                    f"resume needs the method {name[1:-1]} of the sweep: got none of that name. Call "
                    f"fastplast.methods.register({name}, ...) and fastplast.sweep from Python."
                )
    return grid_of([cross | kept["machine"] | dict(machine or {}) for cross in kept["crosses"]])


def _read(path: Path) -> dict[str, Any]:
    kept = read_json(path, {"machine": dict, "crosses": list})
    with reading(path):
        for cross in kept["crosses"]:
            check_keys(cross, {})
    return kept
