"""Where the runs of a sweep lie. Standard library only, so that looking after a sweep costs its training nothing."""

from __future__ import annotations

import os
from pathlib import Path

SHARDS = "shards"


def is_sweep(path: str | os.PathLike) -> bool:
    """Whether a path is a sweep directory."""
    return (Path(path).expanduser() / SHARDS).is_dir()


def shard_paths(root: Path) -> list[Path]:
    """The shards of a sweep directory that have been begun."""
    return sorted(config.parent for config in (root / SHARDS).glob("*/config.json"))
