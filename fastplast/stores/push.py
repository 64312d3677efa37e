"""From a directory to a store: what changed is sent, then the manifest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fastplast.runs.files import StoreError, config_digest, release_lock, take_lock
from fastplast.runs.paths import SHARDS, is_sweep, shard_paths
from fastplast.runs.reading import digest_of
from fastplast.runs.run import Run
from fastplast.stores.store import Manifest, Sent, Store, stored_name

FOLDERS = ("metrics", "epochs", "spectra", "weights", "checkpoint")
OF_A_RUN = ("config.json", "env.json", "manifest.jsonl", "progress.json", "timings.jsonl")
OF_A_SWEEP = ("grid.json", "plan.json")


def push(path: str | os.PathLike, url: str) -> int:
    """Sends a run or a sweep to a store; what lies there unchanged is not sent again.

    Args:
        path: run directory, or sweep. Of a sweep, runs that another process trains are left out.
        url: of the place in the store, such as ``s3://bucket/prefix``.

    Returns:
        How many files were sent.

    Raises:
        ConfigError: if the URL is bad, or the package for it is missing.
        StoreError: if the store cannot be written, another run lies there, or another process trains the run.
        FileNotFoundError: if the path is neither a run nor a sweep.
    """
    path = Path(path).expanduser()
    if not is_sweep(path):
        with _unwritten(Run(path)):
            return Pusher(path, url).push()
    sent = 0
    for shard in shard_paths(path):
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_unwritten(Run(shard)))
            except StoreError as error:
                if error.errno is None:
                    raise
                continue
            sent += Pusher(shard, url).push()
    return sent + Pusher(path, url).push()


@contextlib.contextmanager
def _unwritten(run: Run) -> Iterator[None]:
    """Keeps other processes from training a run, unless it is finished."""
    if run.is_finished:
        yield
        return
    lock = take_lock(run.path)
    try:
        yield
    finally:
        release_lock(lock)


class Pusher:
    """Sends a directory again and again, while this process alone writes it.

    Args:
        path: run directory; a shard goes to its place in its sweep. Or a sweep, of which only its own files are sent.
        url: of the place of the run, or of the sweep.

    Raises:
        ConfigError: if the URL is bad, or the package for it is missing.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path = path.absolute()
        self._is_sweep = is_sweep(path)
        self._sweep = path.parent.parent if path.parent.name == SHARDS else None
        self._store = Store(f"{url.rstrip('/')}/{SHARDS}/{path.name}" if self._sweep else url)
        self._url = url
        self._known: dict[tuple[str, int, int], Sent] = {}  # by name, size and time of change

    def push(self) -> int:
        """Sends what is not there, then the manifest, and removes what neither it nor the one before names.

        Returns:
            How many files were sent.

        Raises:
            StoreError: if the store cannot be written, or holds another run.
        """
        sent = Pusher(self._sweep, self._url).push() if self._sweep else 0
        before = self._store.read_manifest() or Manifest("", {}, [])
        run = "" if self._is_sweep else config_digest(Run(self.path).config | {"tasks": None})
        if before.files and before.run != run:
            raise StoreError(
                f"{self._store.url} must be free, or hold {self.path}: got another run. Choose another prefix."
            )
        files = {path.relative_to(self.path).as_posix(): self._digest(path) for path in self._files()}
        there = self._store.sizes(depth=1 if self._is_sweep else 2)
        for name, file in files.items():
            if there.get(place := stored_name(name, file.sha256)) != file.size:
                self._store.send(self.path / name, place)
                sent += 1
        if files == before.files:
            return sent
        old = [stored_name(name, file.sha256) for name, file in before.files.items() if files.get(name) != file]
        self._store.write_manifest(Manifest(run, files, old))
        if not self._is_sweep:  # whose own files several processes send
            kept = {stored_name(name, file.sha256) for name, file in files.items()} | set(old)
            self._store.remove([name for name in before.before if name not in kept])
        return sent

    def _files(self) -> list[Path]:
        names = OF_A_SWEEP if self._is_sweep else OF_A_RUN
        found = [self.path / name for name in names if (self.path / name).is_file()]
        for folder in () if self._is_sweep else FOLDERS:
            found += sorted(p for p in (self.path / folder).glob("*") if p.is_file() and not p.name.startswith("."))
        return found

    def _digest(self, path: Path) -> Sent:
        state = path.stat()
        key = (str(path), state.st_size, state.st_mtime_ns)
        if key not in self._known:
            self._known[key] = Sent(*digest_of(path))
        return self._known[key]
