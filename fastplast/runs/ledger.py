"""What a sweep directory says of shards beside their runs: which are planned, and which failed, and why.

``plan.json`` names each shard that is planned or was, ``failed/`` has a file for each that failed and was not trained
since. Standard library only: looking after a sweep costs its training nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastplast.runs.files import json_bytes, locked, write_file
from fastplast.runs.reading import check_keys, read_json, reading

PLAN, FAILED = "plan.json", "failed"


class Planned(NamedTuple):
    """A shard that is to be trained.

    Attributes:
        members: of it.
        updates: of all of them, over all tasks.
    """

    members: int
    updates: int


class Failure(NamedTuple):
    """Why a shard was not trained to its end.

    Attributes:
        error: what was raised, in words.
        is_transient: whether the same may work another time: a full disk, a lock that another process held.
    """

    error: str
    is_transient: bool


def add_plan(directory: Path, shards: Mapping[str, Planned], in_place_of: str | None = None) -> None:
    """Adds shards to those that are planned.

    Args:
        directory: of the sweep.
        shards: by name.
        in_place_of: the shard whose members they have, which is planned no longer.
    """
    before = read_plan(directory)
    if shards.keys() <= before.keys() and in_place_of not in before:
        return
    with locked(directory):
        planned = {name: one for name, one in read_plan(directory).items() if name != in_place_of} | dict(shards)
        entries = {name: shard._asdict() for name, shard in sorted(planned.items())}
        write_file(directory / PLAN, json_bytes({"shards": entries}))


def read_plan(directory: Path) -> dict[str, Planned]:
    """The shards that are planned, or were.

    Args:
        directory: of the sweep.

    Returns:
        By name; none where none of this version was.
    """
    path, planned = directory / PLAN, {}
    if not path.exists():
        return {}
    shards = read_json(path, {"shards": dict})["shards"]
    with reading(path):
        for name, entry in shards.items():
            entry = check_keys(entry, {"members": int, "updates": int})
            planned[name] = Planned(entry["members"], entry["updates"])
    return planned


def note_failure(directory: Path, shard: str, failure: Failure) -> None:
    """Keeps why a shard failed.

    Args:
        directory: of the sweep.
        shard: its name.
        failure: the reason.
    """
    write_file(directory / FAILED / f"{shard}.json", json_bytes(failure._asdict()))


def forget_failure(directory: Path, shard: str) -> None:
    """Removes what was kept of a shard's failure, if it had one.

    Args:
        directory: of the sweep.
        shard: its name.
    """
    (directory / FAILED / f"{shard}.json").unlink(missing_ok=True)


def read_failures(directory: Path) -> dict[str, Failure]:
    """The shards that failed and were not trained since.

    Args:
        directory: of the sweep.

    Returns:
        By name.
    """
    failures = {}
    for path in sorted((directory / FAILED).glob("*.json")):
        with contextlib.suppress(FileNotFoundError):
            entry = read_json(path, {"error": str, "is_transient": bool})
            failures[path.stem] = Failure(entry["error"], entry["is_transient"])
    return failures
