"""Reading what may be of any content, by a fault or by somebody's will: regular files only, sizes before memory.

Standard library only, for every room that reads.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

_MOST_UNPACKED = 1 << 28  # bytes of an array that a small archive may hold
_MOST_RATIO = 200  # of an array's bytes to those of its archive, above that: images do not compress so well


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file: never a pipe or a device, where reading need not end.

    Args:
        path: the file.

    Returns:
        The open file.

    Raises:
        OSError: if it is missing, or no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        most: bytes that it may have; no limit if None.

    Returns:
        Its content.

    Raises:
        OSError: if it is missing, or no regular file.
        ValueError: if it is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise ValueError(f"{Path(path).name}: it has {size:,} bytes, more than {most:,}")
        return file.read(size)


def gunzip(content: bytes, most: int) -> bytes:
    """What a gzip file holds.

    Args:
        content: of the file.
        most: bytes that it may hold.

    Returns:
        Its uncompressed content.

    Raises:
        ValueError: if it holds more.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        found = stream.read(most + 1)
    if len(found) > most:
        raise ValueError(f"it holds more than {most:,} bytes")
    return found


def check_zip(archive: zipfile.ZipFile, size: int, most: int | None = None) -> None:
    """Refuses a zip archive, such as an ``.npz``, of entries that take far more memory than its file.

    Args:
        archive: open.
        size: bytes of its file.
        most: bytes that an entry may have; by default what images of that size may have.

    Raises:
        ValueError: naming the entry.
    """
    most = max(_MOST_UNPACKED, _MOST_RATIO * size) if most is None else most
    for entry in archive.infolist():
        if entry.file_size > most:
            raise ValueError(f"{entry.filename[:100]} claims {entry.file_size:,} bytes in a file of {size:,}")


class Counted(io.RawIOBase):
    """A stream that ends in an error after so many bytes.

    Args:
        stream: what is read.
        most: bytes that it may give.
    """

    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self._left = stream, most

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Args:
            size: of them at most; all if negative.

        Returns:
            What there is, empty at the end.

        Raises:
            ValueError: once there are too many.
        """
        content = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError("it holds far more bytes than the dataset")
        return content


def reason(error: BaseException) -> str:
    """The first 200 characters of what an error says, on one line; a parser may quote all of a file."""
    text = " ".join((str(error) or type(error).__name__).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
