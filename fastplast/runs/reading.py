"""Reading files of a run: whatever is not what it should be is one error, which names the file and what to do.

A file may be of any content, put there by a fault or by somebody else. So only regular files are opened, sizes are
known before memory is taken, and whatever a parser raises becomes a ``StoreError``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastplast.bounded import open_regular, read_bytes, reason
from fastplast.config import lacking
from fastplast.runs.files import StoreError

MOST_TEXT = 1 << 28  # bytes of a file that is read as text
_RESTORE = "Restore it from a copy of the run."


@contextlib.contextmanager
def reading(path: Path, advice: str = _RESTORE) -> Iterator[None]:
    """Turns whatever goes wrong with reading a file into the error that names it.

    Args:
        path: what is read in the block.
        advice: what to do, as a sentence.

    Yields:
        Nothing.

    Raises:
        StoreError: if anything is raised in the block.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # parsers fail in some twenty ways between them
        raise StoreError(f"{path} is missing or damaged ({reason(error)}). {advice}") from error


def read_json(path: Path, keys: Mapping[str, type] | None = None) -> Any:
    """Reads a JSON file of a run.

    Args:
        path: the file.
        keys: that an object must have, each with the type of its value; None for any JSON value.

    Returns:
        Its content.

    Raises:
        StoreError: if it is missing, is no JSON, or lacks a key.
    """
    with reading(path):
        value = json.loads(read_bytes(path, MOST_TEXT).decode())
        return value if keys is None else check_keys(value, keys)


def check_keys(value: Any, keys: Mapping[str, type]) -> dict[str, Any]:
    """Refuses what is no object with some keys.

    Args:
        value: from JSON.
        keys: each with the type of its value.

    Returns:
        The object.

    Raises:
        ValueError: naming the key.
    """
    if not isinstance(value, dict):
        raise ValueError(f"it must be an object: got {type(value).__name__}")
    for name, kind in keys.items():
        if name not in value:
            raise ValueError(f"it lacks {name}")
        if type(value[name]) is not kind:
            raise ValueError(f"{name} must be of type {kind.__name__}: got {type(value[name]).__name__}")
    return value


def check_config(config: Any, path: Path) -> None:
    """Refuses a stored configuration that lacks a field.

    Args:
        config: from JSON.
        path: of the file that holds it.

    Raises:
        StoreError: naming the fields that it lacks.
    """
    with reading(path):
        check_keys(config, {"benchmark": str, "tasks": int, "network": str})
        check_keys(config, dict.fromkeys(lacking(config), object))
        for members_or_names in (config.get("member_list") or (), check_keys(config.get("own", {}), {}).values()):
            for one in members_or_names:
                check_keys(one, {})


def digest_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a regular file, read piece by piece.

    Args:
        path: the file.

    Returns:
        Bytes, and 64 hexadecimal digits.

    Raises:
        OSError: if it is missing, or no regular file.
    """
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as file:
        while block := file.read(1 << 22):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
