"""What takes the points of a run that is watched, and the names under which it has them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from fastplast.drawing.settings import Setting
from fastplast.runs.paths import SHARDS
from fastplast.runs.run import Run

ONLINE = "online"


class Sink(Protocol):
    """What takes points.

    Attributes:
        parts: parts of the metrics that it has from an earlier process and takes no more; two a task.
        updates: as many updates of a member had been made at its last epoch from an earlier process.
    """

    parts: int
    updates: int

    def write_part(self, task: int, when: str, series: dict[str, dict[str, float]]) -> None:
        """Takes a part: name of the setting or member to column to value."""
        ...

    def write_epoch(self, updates: int, values: dict[str, float]) -> None:
        """Takes an epoch."""
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


def label_of(setting: Setting) -> str:
    """What a setting is called, as the name of a directory; ``mean`` if it is the only one."""
    return setting.label.replace("/", "_") or "mean"


def path_of(run: Run) -> str:
    """Under which path a run is shown: of a shard its sweep's name and its own."""
    path = run.path.resolve()
    return f"{path.parent.parent.name}/{path.name}" if path.parent.name == SHARDS else path.name


def import_package(name: str, flag: str) -> Any:
    """Imports what a flag needs.

    Args:
        name: of the package.
        flag: of the command line.

    Returns:
        The package.

    Raises:
        ImportError: if it is missing; the text says how to install it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{flag} needs the package {name}: got {error}. Install it with `pip install {name}`."
        ) from error
