"""What a run must hold: its parts with their rows, sizes and digests, a line each in ``manifest.jsonl``.

A line is added once its part is whole, so that a part without a line is one that is being written, or of a version
before there were manifests. Of several lines of one part the last counts. A finished run's manifest is sorted, has a
line for each part, and its own digest lies in ``env.json``.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from fastplast.bounded import read_bytes
from fastplast.runs.files import StoreError, append_line
from fastplast.runs.reading import MOST_TEXT, check_keys, digest_of, reading

FILE = "manifest.jsonl"
FOLDERS = ("metrics", "epochs", "spectra")
_PART = re.compile(r"part-\d{5,}(-start|-end)?\.parquet|task-\d{5,}-(start|end)\.npz")


class Part(NamedTuple):
    """A part of a run, as it was written.

    Attributes:
        rows: of its table; members of a file of spectra.
        size: bytes of the file.
        sha256: of the file.
    """

    rows: int
    size: int
    sha256: str


def add_part(run: Path, name: str, part: Part) -> None:
    """Adds a part to a run's manifest.

    Args:
        run: the run directory.
        name: of the part, such as ``metrics/part-00000-start.parquet``.
        part: what was written.
    """
    append_line(run / FILE, _line(name, part))


def manifest_text(parts: dict[str, Part]) -> bytes:
    """The manifest of a finished run.

    Args:
        parts: by name.

    Returns:
        The file's content.
    """
    return b"".join(_line(name, part) + b"\n" for name, part in sorted(parts.items()))


def _line(name: str, part: Part) -> bytes:
    return json.dumps({"part": name, **part._asdict()}).encode()


def read_manifest(run: Path) -> dict[str, Part]:
    """The parts of a run by name.

    Args:
        run: the run directory.

    Returns:
        Name to part; nothing for a run that was made before there were manifests.
    """
    path, parts = run / FILE, {}
    if not path.exists():
        return {}
    with reading(path):
        lines = read_bytes(path, MOST_TEXT).splitlines()
    kinds = {"part": str, "rows": int, "size": int, "sha256": str}
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):  # what a killed process left of a line
            entry = check_keys(json.loads(line), kinds)
            if entry["part"].partition("/")[0] in FOLDERS and ".." not in entry["part"]:
                parts[entry["part"]] = Part(entry["rows"], entry["size"], entry["sha256"])
    return parts


def find_damage(run: Path, parts: dict[str, Part], needed: set[str]) -> str | None:
    """The first part of a run that is missing, or is not what was written.

    Args:
        run: the run directory.
        parts: from ``read_manifest``, those that must be whole.
        needed: names of parts that must be there, in the manifest or not.

    Returns:
        What is wrong with which part; None if nothing is.
    """
    for name in sorted({*parts, *needed}):
        try:
            check_part(run, name, *digest_of(run / name), parts.get(name))
        except OSError as error:
            return str(error) if isinstance(error, StoreError) else f"{run / name} is missing."
    return None


def check_part(run: Path, name: str, size: int, sha256: str, part: Part | None) -> None:
    """Refuses a part that is not what was written.

    Args:
        run: the run directory.
        name: of the part.
        size: of the file.
        sha256: of the file.
        part: as the manifest has it; None if it does not.

    Raises:
        StoreError: naming the file.
    """
    if part is not None and (size, sha256) != part[1:]:
        raise StoreError(
            f"{run / name} is damaged: got {size:,} bytes with SHA-256 {sha256[:12]}, not {part.size:,} with "
            f"{part.sha256[:12]}. `fastplast resume {shlex.quote(str(run))}` makes it again."
        )


def parts_there(run: Path) -> set[str]:
    """The names of the parts whose files are there, in the manifest or not.

    Args:
        run: the run directory.

    Returns:
        As they are in the manifest.
    """
    files = (file for folder in FOLDERS for file in (run / folder).glob("*"))
    return {f"{file.parent.name}/{file.name}" for file in files if _PART.fullmatch(file.name)}


def task_of(name: str) -> int:
    """The number of the task that a part is of; that of none is before all."""
    number = name.rpartition("/")[2].partition(".")[0].split("-")[1:2]
    return int(number[0]) if number and number[0].isdecimal() else -1
