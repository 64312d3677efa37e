"""Writing files of a run: each whole or not at all, one writer of a directory, JSON and its digests.

A file is written beside its place, flushed to the disk, and renamed: a reader, and a process killed at any moment,
sees what was there before or the new file, never a part of one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import stat
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fastplast.runs.heartbeat import living_elsewhere

SCHEMA_VERSION = 1
TRANSIENT = {  # what may work another time: a full disk, a lock that is held, a file system that is away
    getattr(errno, name)
    for name in ("EAGAIN", "ENOSPC", "EDQUOT", "EIO", "ESTALE", "ETIMEDOUT", "EBUSY", "ENOLCK", "EINTR")
    if hasattr(errno, name)
}
LOCK = ".lock"
_LOCK_TRIES = 20  # for a second in all
_LEFT = re.compile(r"\..+\.\d+\.tmp")  # what ``write_file`` leaves when it is killed


class StoreError(OSError):
    """A run file could not be written, or what was read is damaged. The text names the path and what is intact."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what goes wrong with a write into an error that names the path, the cause and what is intact.

    Args:
        path: what is written in the block.

    Yields:
        Nothing.

    Raises:
        StoreError: if the disk is full or the place cannot be written; ``errno`` is the system's.
    """
    try:
        yield
    except OSError as error:
        failure = StoreError(f"{path} could not be written: {error.strerror or error}. {_advice(path)}")
        failure.errno = error.errno
        raise failure from error


def _advice(path: Path) -> str:
    """What is intact, and what to do: of a run that trains, and of any other file."""
    mend = "Make room or correct the permissions"
    for folder in path.parents[:2]:  # the run's own, or figures/ in it
        with contextlib.suppress(OSError, ValueError, KeyError):
            is_finished = bool(json.loads((folder / "env.json").read_text(encoding="utf-8"))["finished"])
            end = ", or choose another place with `--out`" if is_finished else "; the run then continues with "
            end += "" if is_finished else "`fastplast resume`"
            return (
                "It is as it was before, and every other file of the run, the last checkpoint included, is intact. "
                f"{mend}{end}."
            )
    return f"It is as it was before. {mend}, or choose another place with `--out`."


def write_file(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Writes a file whole or, with a ``StoreError``, not at all; makes its directory if there is none.

    Args:
        path: the file; what it held before is replaced. A link stays one, and what it leads to is written; a pipe or a
            device is written into.
        data: its content, or consecutive pieces of it.
    """
    path = Path(os.path.expanduser(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        with writing(path), open(path, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            if not path.parent.is_dir():
                make_directory(path.parent)
            with open(temporary, "wb") as file:
                for piece in [data] if isinstance(data, bytes) else data:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):  # a new file has none
                os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
            os.replace(temporary, path)
            _sync_directory(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def append_line(path: Path, line: bytes) -> None:
    """Adds a line to a file, on a line of its own even after one that a kill cut short.

    Args:
        path: the file; made if there is none.
        line: without its end.

    Raises:
        OSError: a ``StoreError``, if it cannot be written; the lines before are intact.
    """
    with writing(path), open(path, "a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        data = (b"\n" if file.read(1) not in (b"", b"\n") else b"") + line + b"\n"
        if (file.write(data) or 0) < len(data):  # a full disk takes a part
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_locked_directory(path: Path) -> int:
    """Takes a new or empty directory for a run; ``FileExistsError`` if it holds anything.

    What a process left that was killed before it had made a run of the directory is removed.

    Args:
        path: the directory; made if there is none.

    Returns:
        The descriptor that holds its lock.
    """
    _refuse_existing(path)
    with writing(path):
        make_directory(path)
    lock = take_lock(path)
    try:
        _refuse_existing(path)  # another process may have come and gone since
        with writing(path):
            for left in _leftovers(path):
                left.unlink(missing_ok=True)
    except BaseException:
        os.close(lock)
        raise
    return lock


def make_directory(path: Path) -> None:
    """Makes a directory and those above it, so that their names outlast a power cut.

    Args:
        path: the directory.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        _sync_directory(folder.parent)


def take_lock(directory: Path) -> int:
    """Makes this process the only writer of a run, until it closes the descriptor or dies.

    Args:
        directory: the run directory.

    Returns:
        The descriptor that holds the lock.

    Raises:
        second_writer_error: a ``StoreError``, if another writer holds it.
    """
    path = directory / LOCK
    if holder := living_elsewhere(path):
        raise second_writer_error(directory, holder)
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)  # of a pipe too
    try:
        _flock(descriptor)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace") or "unknown"
        os.close(descriptor)
        raise second_writer_error(directory, holder) from None
    except OSError as error:
        warnings.warn(
            f"{directory} lies on a file system without locks ({error.strerror}): make sure that only one process "
            "writes this run.",
            stacklevel=3,
        )
    try:
        check_lock(descriptor, directory)  # it may have been replaced since it was opened
    except BaseException:
        os.close(descriptor)
        raise
    with contextlib.suppress(OSError):  # the text is only for the message above
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _name_process().encode())
    return descriptor


def second_writer_error(directory: Path, holder: str) -> StoreError:
    """What to say of a directory that another process writes.

    Args:
        directory: the run directory.
        holder: that process, in words.

    Returns:
        The error; its number says that it may pass.
    """
    error = StoreError(
        f"{directory} must have one writer: got a second one while {holder} writes it. "
        + (
            "That is this process: consume the events of the run's training, or close them."
            if holder == _name_process()
            else "Wait until that process ends or stop it, or choose another `--out`."
        )
    )
    error.errno = errno.EAGAIN
    return error


def release_lock(descriptor: int) -> None:
    """Gives a lock back, so that nobody takes its time for a sign of life.

    Args:
        descriptor: from ``take_lock``.
    """
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)


@contextlib.contextmanager
def locked(directory: Path, patience: float = 30.0) -> Iterator[None]:
    """Makes this process the only writer of a directory; waits for others.

    Args:
        directory: of a sweep, or of the cache.
        patience: seconds to wait.

    Yields:
        Nothing.

    Raises:
        StoreError: if another process holds it for longer, or the lock cannot be written.
    """
    end = time.monotonic() + patience
    while True:
        try:
            lock = take_lock(directory)
            break
        except StoreError as error:
            if error.errno not in (None, errno.EAGAIN) or time.monotonic() > end:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        release_lock(lock)


def check_lock(descriptor: int, directory: Path) -> None:
    """Refuses to write into a directory that is no longer the one whose lock is held.

    Args:
        descriptor: from ``take_lock``.
        directory: the run directory.

    Raises:
        StoreError: if the directory was moved, removed or replaced, or its lock was.
    """
    held = os.fstat(descriptor)
    with contextlib.suppress(OSError):
        there = os.stat(directory / LOCK)
        if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino):
            return
    raise StoreError(
        f"{directory} is no longer the directory that this process writes: it was moved, removed or replaced, or the "
        f"file {LOCK} in it was. Nothing more is written; what was written before lies where the directory went."
    )


def _name_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _flock(descriptor: int) -> None:
    import fcntl

    # A program that a killed writer was just starting holds the lock for an instant longer than the writer itself.
    for tries_left in range(_LOCK_TRIES, -1, -1):
        with contextlib.suppress(BlockingIOError) if tries_left else contextlib.nullcontext():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)


def json_bytes(value: Any) -> bytes:
    """JSON that people read as well.

    Args:
        value: dictionaries, lists, text, finite numbers, booleans, None; anything else is json's own error.

    Returns:
        Indented UTF-8 text.
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8",
        "backslashreplace",  # JSON's own escape of bytes in a file's name that are no UTF-8
    )


def config_digest(config: Any) -> str:
    """SHA-256 of a configuration, whatever the order of its keys.

    Args:
        config: JSON values.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_schema(entry: dict, path: Path | str) -> None:
    """Refuses what another schema wrote.

    Args:
        entry: content of ``env.json``, ``checkpoint.json`` or ``store.json``.
        path: of that file, or its address.

    Raises:
        ValueError: if its schema is not this version's.
    """
    version = entry.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise ValueError(
            f"{path} must have run schema {SCHEMA_VERSION}: got {version}, written by fastplast "
            f"{entry.get('fastplast', 'of unknown version')}. "
            + ("Upgrade fastplast to read it." if newer else "Read it with the fastplast that wrote it.")
        )


def _refuse_existing(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"out must be a new or empty directory: got the file {path}. Choose another `--out`.")
    if {entry.name for entry in path.iterdir()} <= {LOCK, *(left.name for left in _leftovers(path))}:
        return
    is_run = (path / "config.json").exists()
    raise FileExistsError(
        f"out must be a new or empty directory: got {path}, which holds {'a run' if is_run else 'files'}. "
        + (
            f"Continue it with `fastplast resume {path}`, or choose another `--out`."
            if is_run
            else "Choose another `--out`."
        )
    )


def _leftovers(path: Path) -> list[Path]:
    """What a killed process left in a directory that it had not made a run of: ``config.json`` comes last."""
    found = [entry for entry in path.iterdir() if is_leftover(entry.name)]
    env = path / "env.json"
    if not (path / "config.json").exists() and env.is_file():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if (content := json.loads(env.read_bytes())) == {} or content.get("schema_version"):
                found.append(env)
    return found


def is_leftover(name: str) -> bool:
    """Whether a file has the name of one that a killed process was writing."""
    return _LEFT.fullmatch(name) is not None


def flush(path: Path) -> None:
    """Makes what was added to a file outlast a power cut; nothing if there is no such file."""
    _sync_directory(path)


def _sync_directory(path: Path) -> None:
    # Makes a rename, or what was added to a file, outlast a power cut. A file system that cannot do it still keeps its
    # promise after a kill.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
