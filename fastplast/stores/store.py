"""A place in an object store: files under names that have their digest, and a manifest that says which of them count.

``store.json`` maps the files of a directory to their sizes and digests. A file is sent under a name with its digest, so
that no file that counts is ever replaced, and the manifest is replaced last: a reader sees one state or the next.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeGuard

from fastplast.bounded import reason
from fastplast.config import ConfigError
from fastplast.runs.files import SCHEMA_VERSION, StoreError, check_schema, json_bytes, write_file
from fastplast.runs.reading import MOST_TEXT, check_keys
from fastplast.version import __version__

MANIFEST = "store.json"
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
}
_ADVICE = "Check the address, and the credentials, which are found as the store's own tools find them."


class Sent(NamedTuple):
    """A file as it was sent.

    Attributes:
        size: in bytes.
        sha256: of its content.
    """

    size: int
    sha256: str


class Manifest(NamedTuple):
    """What a place in a store holds.

    Attributes:
        run: digest of the run's configuration but for its tasks; empty of a sweep.
        files: name, as in the directory, to what was sent.
        before: names in the store of files of the manifest before, which a reader may still want.
    """

    run: str
    files: dict[str, Sent]
    before: list[str]


def is_url(path: str | os.PathLike) -> TypeGuard[str]:
    """Whether a path is an address in a store, such as ``s3://bucket/prefix``."""
    return isinstance(path, str) and "://" in path


def stored_name(name: str, sha256: str) -> str:
    """The name of a file in the store: ``metrics/part-00000-end.parquet`` is ``…/part-00000-end-<digest>.parquet``.

    Args:
        name: in the directory.
        sha256: of its content.

    Returns:
        The name; the ending stays, so that other programs can read ``metrics/*.parquet`` in place.
    """
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}-{sha256[:16]}{path.suffix}"))


class Store:
    """A prefix in a store that fsspec reaches.

    Args:
        url: such as ``s3://bucket/prefix``.

    Raises:
        ConfigError: if it is no URL of a known kind, or the package for it is missing.

    Attributes:
        url: as it was given, without a slash at its end.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            import fsspec
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise ConfigError(f"a store needs the package fsspec: got {error}. `pip install fsspec`.") from None
        kind = url.partition("://")[0]
        if not is_url(url) or kind not in fsspec.available_protocols():
            raise ConfigError(f"a store must be a URL such as s3://bucket/prefix: got {url!r}.")
        try:
            self._files, self._root = url_to_fs(self.url)
        except ImportError as error:
            package = _PACKAGES.get(kind, f"for {kind}://")
            raise ConfigError(f"{url} needs the package {package}: got {error}. `pip install {package}`.") from None
        except Exception as error:
            raise StoreError(f"{url} could not be opened ({reason(error)}). {_ADVICE}") from error

    @contextlib.contextmanager
    def _reaching(self, name: str, done: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # each store has errors of its own
            text = f"{type(error).__name__}: {reason(error)}"
            raise StoreError(f"{self.url}/{name} could not be {done} ({text}). {_ADVICE}") from error

    @contextlib.contextmanager
    def _parsing(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreError(
                f"{self.url}/{MANIFEST} is damaged ({reason(error)}). Remove it and push the directory again."
            ) from error

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def read_manifest(self) -> Manifest | None:
        """What the place holds.

        Returns:
            None if nothing was sent there yet.

        Raises:
            StoreError: if the store cannot be reached, or the manifest is damaged.
            ValueError: if it was written in another schema.
        """
        with self._reaching(MANIFEST, "read"):
            self._files.invalidate_cache()
            try:
                size = self._files.info(self._at(MANIFEST))["size"]
                content = self._files.cat_file(self._at(MANIFEST)) if size <= MOST_TEXT else b""
            except FileNotFoundError:
                return None
        with self._parsing():
            entry = check_keys(json.loads(content), {"schema_version": int})
        check_schema(entry, f"{self.url}/{MANIFEST}")
        with self._parsing():
            check_keys(entry, {"run": str, "files": dict, "before": list})
            files = {_checked(name): Sent(*map(_of(sent), ("size", "sha256"))) for name, sent in entry["files"].items()}
            before = [_checked(name) for name in entry["before"]]
        return Manifest(entry["run"], files, before)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replaces the manifest.

        Args:
            manifest: the new one.
        """
        entry = {"schema_version": SCHEMA_VERSION, "fastplast": __version__, **manifest._asdict()}
        entry["files"] = {name: sent._asdict() for name, sent in sorted(manifest.files.items())}
        self._write(MANIFEST, json_bytes(entry))

    def sizes(self, depth: int) -> dict[str, int]:
        """The sizes of what lies there, by its name in the store.

        Args:
            depth: of folders that are looked into; 1 for the place itself alone.

        Returns:
            Name to bytes.
        """
        with self._reaching("", "listed"):
            self._files.invalidate_cache()
            found = self._files.find(self._root, maxdepth=depth, detail=True)
        start = len(self._root.rstrip("/")) + 1
        return {path[start:]: entry["size"] for path, entry in found.items()}

    def send(self, path: Path, name: str) -> None:
        """Sends a file.

        Args:
            path: of the file.
            name: in the store.
        """
        if self._is_local:
            self._write(name, path.read_bytes())
            return
        with self._reaching(name, "written"):
            self._files.put_file(str(path), self._at(name))

    def fetch(self, name: str, path: Path) -> None:
        """Fetches a file.

        Args:
            name: in the store.
            path: where it goes.

        Raises:
            StoreError: if it is missing, or the store cannot be reached.
        """
        with self._reaching(name, "read"):
            try:
                self._files.get_file(self._at(name), str(path))
            except FileNotFoundError:
                raise StoreError(
                    f"{self.url}/{name} is missing in the store. Push the directory again, which sends what is missing."
                ) from None

    def remove(self, names: Iterator[str] | list[str]) -> None:
        """Removes files; those that stay cost room, and nothing else.

        Args:
            names: in the store.
        """
        for name in names:
            with contextlib.suppress(Exception):
                self._files.rm_file(self._at(name))

    def folders(self, name: str) -> list[str]:
        """The names of the folders in a folder; none if there is none."""
        with self._reaching(name, "listed"):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(self._at(name), detail=True)
            except FileNotFoundError:
                return []
        return sorted(_checked(PurePosixPath(one["name"]).name) for one in found if one["type"] == "directory")

    @property
    def _is_local(self) -> bool:
        # A file there is not written whole or not at all, as an object of a store is.
        return "file" in (self._files.protocol if isinstance(self._files.protocol, tuple) else (self._files.protocol,))

    def _write(self, name: str, content: bytes) -> None:
        with self._reaching(name, "written"):
            if self._is_local:
                write_file(Path(self._at(name)), content)
            else:
                self._files.pipe_file(self._at(name), content)


def check_store(url: str) -> None:
    """Makes sure, before anything is trained, that a store can be written.

    Args:
        url: of the place.

    Raises:
        ConfigError: if it is no URL of a known kind, or the package for it is missing.
        StoreError: if it cannot be reached or written.
    """
    store = Store(url)
    store.read_manifest()
    store._write("writable", b"")
    store.remove(["writable"])


def _of(sent: Mapping[str, Any]) -> Any:
    return check_keys(sent, {"size": int, "sha256": str}).__getitem__


def _checked(name: str) -> str:
    # A manifest may be of any content: no name in it leads out of the directory, or to a hidden file of it.
    parts = name.split("/")
    if not all(parts) or any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        raise ValueError(f"got the name {name[:200]!r}")
    return name
