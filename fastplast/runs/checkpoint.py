"""Checkpoints: safetensors and JSON, no pickle; a kill at any moment leaves one that loads."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.runs.files import SCHEMA_VERSION, StoreError, check_schema, json_bytes, read_json, write_file
from fastplast.version import __version__

if TYPE_CHECKING:
    from torch import Tensor


def save_checkpoint(directory: Path, tensors: Mapping[str, Tensor], position: Mapping[str, Any], digest: str) -> None:
    """Replaces the checkpoint; a kill at any moment leaves the previous or the new one whole.

    First the state is written under a new name, then ``checkpoint.json``, which names it, is replaced, then older
    states are removed. A full disk (StoreError) leaves the previous checkpoint.

    Args:
        directory: ``checkpoint/`` of a run.
        tensors: name to tensor, of any shape, on any device.
        position: where the run stands: JSON values.
        digest: ``config_digest`` of the run.
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
    current = read_json(path)["file"] if path.exists() else ""
    _keep_only(current, directory)  # what kills left behind may be large
    state = f"state-{int(Path(current).stem.split('-')[1]) + 1 if current else 0}.safetensors"
    digester, size = hashlib.sha256(), 0

    def measured() -> Iterator[bytes | memoryview]:
        nonlocal size
        for piece in pieces(tensors):
            digester.update(piece)
            size += len(piece)
            yield piece

    write_file(directory / state, measured())
    entry |= {"file": state, "size_bytes": size, "sha256": digester.hexdigest()}
    write_file(path, json_bytes(entry))
    _keep_only(state, directory)


def load_checkpoint(directory: Path, digest: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Reads the checkpoint, after checking that it is what was written.

    Args:
        directory: ``checkpoint/`` of a run.
        digest: ``config_digest`` of the run.

    Returns:
        Tensors on the CPU, views of the file as it is now, and the position; None if there is no checkpoint.

    Raises:
        StoreError: if the checkpoint is damaged, or belongs to another configuration.
    """
    path = directory / "checkpoint.json"
    if not path.exists():
        return None
    entry = read_json(path)
    check_schema(entry, path)
    if entry["config_sha256"] != digest:
        raise StoreError(
            f"{path} belongs to another configuration than the config.json of its run: got {digest[:12]}, not "
            f"{entry['config_sha256'][:12]}. Restore the config.json that the run was started with."
        )
    state = directory / entry["file"]
    wrote = f"{entry['size_bytes']} bytes with SHA-256 {entry['sha256'][:12]}"
    found = f"{state.stat().st_size} bytes with SHA-256 {_sha256(state)[:12]}" if state.is_file() else "no file"
    if found != wrote:
        raise StoreError(
            f"{state} is damaged: got {found}, not {wrote}. Metrics and spectra of the run are intact. Restore the "
            f"file from a copy, or remove {directory} to train the run from its first task again."
        )
    from safetensors.torch import load_file

    return load_file(state), entry["position"]


def _keep_only(state: str, directory: Path) -> None:
    for name in sorted(os.listdir(directory)) if directory.is_dir() else ():
        if name not in (state, "checkpoint.json"):
            with contextlib.suppress(OSError):  # a file that stays costs room, and nothing else
                (directory / name).unlink()


def _sha256(path: Path) -> str:
    result = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            result.update(block)
    return result.hexdigest()
