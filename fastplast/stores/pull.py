"""From a store to a directory: what the manifest names and the directory lacks is fetched and checked by its digest."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from pathlib import Path

from fastplast.runs.files import (
    LOCK,
    StoreError,
    json_bytes,
    locked,
    make_directory,
    release_lock,
    take_lock,
    write_file,
)
from fastplast.runs.paths import SHARDS
from fastplast.runs.reading import digest_of, read_json
from fastplast.stores.store import Manifest, Sent, Store, stored_name

PULLED = ".pulled.json"  # what was fetched last, so that what was trained since is not replaced
_KEYS = {"url": str, "files": list, "env": list}
_TRIES = 5  # of a state that another process replaces while it is fetched


def pull(url: str, path: str | os.PathLike) -> Path:
    """Fetches a run or a sweep from a store, whole and checked; what is there already is not fetched again.

    Args:
        url: of the place in the store, such as ``s3://bucket/prefix``.
        path: a new or empty directory, or one that was fetched from there before and not trained since.

    Returns:
        The directory. ``fastplast resume`` goes on with an unfinished run in it.

    Raises:
        ConfigError: if the URL is bad, or the package for it is missing.
        StoreError: if the store cannot be reached, or holds no results there, or a file in it is missing or damaged.
        FileExistsError: if the directory holds something else.
    """
    path, store = Path(path).expanduser(), Store(url)
    shards = [(Store(f"{store.url}/{SHARDS}/{name}"), path / SHARDS / name) for name in store.folders(SHARDS)]
    if not [_pull_one(*one) for one in [*shards, (store, path)] if one[0].read_manifest()]:
        raise StoreError(f"{store.url} holds no results. Push a run or a sweep there, or correct the address.")
    return path


def pull_to_cache(url: str) -> Path:
    """Fetches results into a directory of their own under the user's cache.

    Args:
        url: of the place in the store.

    Returns:
        The directory, of the address's last name.
    """
    import platformdirs

    url = url.rstrip("/")
    digest, name = hashlib.sha256(url.encode()).hexdigest()[:16], url.rpartition("/")[2].lstrip(".") or "run"
    folder = Path(platformdirs.user_cache_dir("fastplast", appauthor=False)) / "stores" / digest
    make_directory(folder)
    with locked(folder, patience=math.inf):  # for another process that fetches the same, however long that takes
        return pull(url, folder / name)


def _pull_one(store: Store, path: Path) -> None:
    """Fetches what the manifest of a place names; anew if another process replaces it meanwhile.

    Raises:
        StoreError: as of ``pull``.
    """
    manifest = store.read_manifest()
    for _ in range(_TRIES):
        try:
            return _fetch(store, manifest, path)
        except StoreError:
            if (newer := store.read_manifest()) == manifest:
                raise
            manifest = newer
    return _fetch(store, manifest, path)


def _fetch(store: Store, manifest: Manifest | None, path: Path) -> None:
    """Fetches what a manifest names.

    Raises:
        StoreError: if there is none, or a file is missing or damaged.
    """
    if manifest is None:
        raise StoreError(f"{store.url} was removed while it was fetched.")
    _check_free(path, store.url)
    make_directory(path)
    lock = take_lock(path) if manifest.run else None
    try:
        marker = path / PULLED
        before = read_json(marker, _KEYS) if marker.exists() else {"files": [], "env": []}
        env = [manifest.files["env.json"].sha256] if manifest.run else []
        files = sorted({*before["files"], *manifest.files})
        write_file(marker, json_bytes({"url": store.url, "files": files, "env": before["env"] + env}))
        for name in sorted(manifest.files, key=lambda name: name == "config.json"):  # it makes the directory a run
            _fetch_file(store, name, manifest.files[name], path / name)
        for name in {*before["files"]} - {*manifest.files}:
            (path / name).unlink(missing_ok=True)
        write_file(marker, json_bytes({"url": store.url, "files": sorted(manifest.files), "env": env}))
    finally:
        if lock is not None:
            release_lock(lock)


def _check_free(path: Path, url: str) -> None:
    """Refuses a directory that holds anything else, or a run that was trained since it was fetched.

    Args:
        path: the directory.
        url: from where it is to be fetched.

    Raises:
        FileExistsError: naming the directory.
    """
    marker, env = path / PULLED, path / "env.json"
    if not path.exists() or (path.is_dir() and {entry.name for entry in path.iterdir()} <= {LOCK, SHARDS}):
        return
    if marker.is_file():
        entry = read_json(marker, _KEYS)
        if entry["url"] == url and (not env.exists() or digest_of(env)[1] in entry["env"]):
            return
    raise FileExistsError(
        f"path must be a new directory, or one pulled from {url} and not trained since: got {path}. Choose another."
    )


def _fetch_file(store: Store, name: str, sent: Sent, path: Path) -> None:
    """Fetches a file, unless it is there.

    Args:
        store: where from.
        name: of the file in the manifest.
        sent: as the manifest has it.
        path: where it goes.

    Raises:
        StoreError: if it is missing or damaged in the store.
    """
    with contextlib.suppress(OSError):
        if digest_of(path) == sent:
            return
    make_directory(path.parent)
    temporary, place = path.with_name(f".{path.name}.{os.getpid()}.tmp"), stored_name(name, sent.sha256)
    try:
        store.fetch(place, temporary)
        found = Sent(*digest_of(temporary))
        if found != sent:
            raise StoreError(
                f"{store.url}/{place} is damaged in the store: got {found.size:,} bytes with SHA-256 "
                f"{found.sha256[:12]}, not {sent.size:,} with {sent.sha256[:12]}. Remove it and push the directory "
                "again, which sends what is missing."
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
