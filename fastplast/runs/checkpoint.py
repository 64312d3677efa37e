"""Checkpoints: safetensors and JSON, no pickle; a kill at any moment leaves one that loads.

``checkpoint/`` holds the last one, and ``previous_checkpoint/`` beside it the one before, until the run is finished: it
is used where the last is damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.runs.files import SCHEMA_VERSION, StoreError, check_schema, is_leftover, json_bytes, write_file
from fastplast.runs.reading import digest_of, read_json, reading
from fastplast.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

_PREVIOUS = "previous_checkpoint"
_STATE = re.compile(r"state-(\d{1,18})\.safetensors")
_DIGEST = "entry_sha256"  # of the other values in ``checkpoint.json``
_KEYS = {"config_sha256": str, "position": dict, "file": str, "size_bytes": int, "sha256": str}


def save_checkpoint(directory: Path, tensors: Mapping[str, Tensor], position: Mapping[str, Any], digest: str) -> None:
    """Replaces the checkpoint; a kill at any moment leaves the previous or the new one whole.

    First the state is written under a new name, then ``checkpoint.json``, which names it, is replaced, then older
    states are removed; the last of them is kept beside. A full disk leaves the previous checkpoint.

    Args:
        directory: ``checkpoint/`` of a run.
        tensors: name to tensor, of any shape, on any device.
        position: where the run stands: JSON values.
        digest: ``config_digest`` of the run.

    Raises:
        StoreError: if the disk is full, or the directory is a link.
    """
    from fastplast.runs.safetensors_writer import pieces

    entry = {
        "schema_version": SCHEMA_VERSION,
        "fastplast": __version__,
        "config_sha256": digest,
        "position": dict(position),
    }
    json_bytes(entry)  # a position that is no JSON fails here, before anything is written
    path = directory / "checkpoint.json"
    if directory.is_symlink():
        raise StoreError(f"{directory} must be a directory of its run, and no link: older states in it are removed.")
    numbers = [int(found[1]) for name in _names(directory) if (found := _STATE.fullmatch(name))]
    before = None
    with contextlib.suppress(StoreError):  # a damaged one is replaced
        before = _read_entry(directory)
    _keep_only(before["file"] if before else "", directory)  # what kills left behind may be large
    state = f"state-{max(numbers, default=-1) + 1}.safetensors"
    digester, size = hashlib.sha256(), 0

    def measured() -> Iterator[bytes | memoryview]:
        nonlocal size
        for piece in pieces(tensors):
            digester.update(piece)
            size += len(piece)
            yield piece

    write_file(directory / state, measured())
    entry |= {"file": state, "size_bytes": size, "sha256": digester.hexdigest()}
    entry[_DIGEST] = _digest_of(entry)
    write_file(path, json_bytes(entry))
    if before is not None:
        _set_aside(directory, before)
    _keep_only(state, directory)


def _set_aside(directory: Path, entry: Mapping[str, Any]) -> None:
    """Makes a checkpoint the previous one; without room for it there is none."""
    previous = directory.with_name(_PREVIOUS)
    with contextlib.suppress(OSError):
        if previous.is_symlink():
            return
        write_file(previous / "checkpoint.json", json_bytes(dict(entry)))
        os.replace(directory / entry["file"], previous / entry["file"])
        _keep_only(entry["file"], previous)


def remove_previous(directory: Path) -> None:
    """Removes the previous checkpoint: of a finished run it is not needed.

    Args:
        directory: ``checkpoint/`` of the run.
    """
    previous = directory.with_name(_PREVIOUS)
    if previous.is_dir() and not previous.is_symlink():
        with contextlib.suppress(OSError):
            (previous / "checkpoint.json").unlink(missing_ok=True)
            _keep_only("", previous)
            previous.rmdir()


def load_checkpoint(directory: Path, digest: str, *others: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Reads the checkpoint, after checking that it is what was written.

    Args:
        directory: ``checkpoint/`` of a run.
        digest: ``config_digest`` of the run.
        others: of the same run with fewer tasks, whose end is a beginning of it.

    Returns:
        Tensors on the CPU, views of the file as it is now, and the position; None if there is no checkpoint.

    Raises:
        StoreError: if the checkpoint is damaged, or belongs to another configuration.
    """
    try:
        return _load(directory, digest, *others)
    except StoreError as error:
        try:
            found = _load(directory.with_name(_PREVIOUS), digest, *others)
        except StoreError:
            found = None
        if found is None:
            raise
        warnings.warn(f"{error} The checkpoint before it is whole and is used.", stacklevel=3)
        return found


def _load(directory: Path, digest: str, *others: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    entry = _read_entry(directory)
    if entry is None:
        return None
    if entry["config_sha256"] not in (digest, *others):
        raise StoreError(
            f"{directory / 'checkpoint.json'} belongs to another configuration than the config.json of its run: got "
            f"{digest[:12]}, not {entry['config_sha256'][:12]}. Restore the config.json that the run was started with."
        )
    state = directory / entry["file"]
    wrote = f"{entry['size_bytes']} bytes with SHA-256 {entry['sha256'][:12]}"
    found = "no file"
    with contextlib.suppress(OSError):
        size, sha256 = digest_of(state)
        found = f"{size} bytes with SHA-256 {sha256[:12]}"
    advice = (
        f"Metrics and spectra of the run are intact. Restore the file from a copy, or remove {directory} to train the "
        "run from its first task again."
    )
    if found != wrote:
        raise StoreError(f"{state} is damaged: got {found}, not {wrote}. {advice}")
    from safetensors.torch import load_file

    with reading(state, advice):
        return load_file(state), entry["position"]


def _read_entry(directory: Path) -> dict[str, Any] | None:
    # What ``checkpoint.json`` says; None if there is none.
    path = directory / "checkpoint.json"
    if not path.exists():
        return None
    entry = read_json(path, {"schema_version": int})
    check_schema(entry, path)
    entry = read_json(path, _KEYS)
    with reading(path):
        if entry.get(_DIGEST, digest := _digest_of(entry)) != digest:  # an earlier version wrote none
            raise ValueError("its values are not those of its digest")
    if not _STATE.fullmatch(entry["file"]):
        raise StoreError(f"{path} is damaged: file must be the name of a state: got {entry['file'][:100]!r}.")
    return entry


def _digest_of(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_bytes({name: value for name, value in entry.items() if name != _DIGEST})).hexdigest()


def _names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def _keep_only(state: str, directory: Path) -> None:
    """Removes other states, and what kills left of files: names that only checkpoints have, and no others."""
    for name in _names(directory):
        if name != state and (_STATE.fullmatch(name) or is_leftover(name)):
            with contextlib.suppress(OSError):  # a file that stays costs room, and nothing else
                (directory / name).unlink()
