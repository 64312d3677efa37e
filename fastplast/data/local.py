"""Finds a dataset among local files, reads it and proves that it is the official one. Nothing here uses the network."""

import bz2
import gzip
import lzma
import os
import shlex
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastplast.bounded import Counted, gunzip, open_regular, read_bytes, reason
from fastplast.data.formats import Arrays, Layout, checksum
from fastplast.data.spec import DATASETS, DataError, Spec

GZIP_MAGIC = b"\x1f\x8b"
_COMPRESSIONS: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (GZIP_MAGIC, lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
)
_LEAST = 1 << 26  # bytes that any file may hold
_MOST_COPIES = 3  # of the images of the larger split, in one file: more than any form has of them


@dataclass(frozen=True)
class Found:
    """Files of one split that exist; they may still be damaged.

    Attributes:
        path: the folder or the archive, for messages.
        layout: the form of the files; None for an archive, which shows its form when it is opened.
        files: the files in official order; empty for an archive.
        mend: the sentence with the command that mends it.
    """

    path: Path
    layout: Layout | None
    files: tuple[Path, ...]
    mend: str


def data_dir(directory: str | os.PathLike[str] | None = None) -> Path:
    """The directory in which datasets are looked for and put.

    Args:
        directory: the user's choice; None takes the environment variable FASTPLAST_DATA, and where that is unset or
            empty the platform's place for the data of programs.

    Returns:
        The directory, which need not exist.
    """
    chosen = directory if directory is not None else os.environ.get("FASTPLAST_DATA")
    if chosen:
        return Path(chosen).expanduser()
    try:
        import platformdirs
    except ImportError:  # its place on Linux
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share", "fastplast")
    return Path(platformdirs.user_data_dir("fastplast", appauthor=False))


def find(spec: Spec, split: str, root: Path, mend: str | None = None) -> Found | None:
    """Looks for the files of a split, in every form and folder that the dataset is published in.

    Args:
        spec: the dataset.
        split: "train" or "test".
        root: a data directory, the folder of the files itself, one of the files, or an archive.
        mend: the last sentence of error messages; None for the command that mends the data.

    Returns:
        The first that exists, whole files before archives; None when there is nothing of this split.

    Raises:
        DataError: some files of the split are there and others are missing, or `root` is a file of no known form.
    """
    mend = _mend(spec, root) if mend is None else mend
    if root.is_file():
        return _find_by_file(spec, split, root, mend)
    for folder in _folders(spec, root):
        for layout in spec.layouts:
            found = _complete(folder, layout, split, mend)
            if found is not None:
                return found
    for folder in _folders(spec, root):
        for pattern in spec.archives:
            for archive in sorted(folder.glob(pattern)):
                return Found(archive, None, (), mend)
    return None


def read(spec: Spec, split: str, found: Found) -> tuple[np.ndarray, np.ndarray, Layout]:
    """Reads a split and verifies it.

    Args:
        spec: the dataset.
        split: "train" or "test".
        found: what `find` returned.

    Returns:
        `images`, uint8 `[R, C*H*W]`, `labels`, int64 `[R]`, and the form they were in.

    Raises:
        DataError: the files are truncated, damaged or other data than the official.
    """
    try:
        layout, parts = _parts(spec, split, found)
        images, labels = layout.decode(parts, split, spec.shape)
    except Exception as error:  # archives, arrays and pickles fail in some twenty ways between them
        subject = f"{found.path} is damaged or in no known form of {spec.name}"
        raise DataError(f"{subject}: {reason(error).rstrip('.:')}. {found.mend}") from error
    _verify(spec, split, (images, labels), found)
    return images, labels, layout


def _verify(spec: Spec, split: str, arrays: Arrays, found: Found) -> None:
    # Compares decoded data with the official number of images and checksum.
    expected, count = spec.splits[split], len(arrays[0])
    subject = f"{found.path} is not the {split} split of {spec.name}"
    if count != expected.images:
        raise DataError(f"{subject}: expected {expected.images:,} images, found {count:,}. {found.mend}")
    digest = checksum(*arrays)
    if digest != expected.checksum:
        splits = ((other, key) for other in DATASETS.values() for key in other.splits)
        known = [f" ({key} of {other.name})" for other, key in splits if other.splits[key].checksum == digest]
        raise DataError(
            f"{subject}: expected sha256 {expected.checksum}, found {digest}{''.join(known[:1])}. {found.mend}"
        )


def _folders(spec: Spec, root: Path) -> Iterator[Path]:
    # The root itself comes last: bare IDX files there could be MNIST's as well as Fashion-MNIST's.
    return (root / folder for folder in (*spec.folders, "") if (root / folder).is_dir())


def _complete(folder: Path, layout: Layout, split: str, mend: str) -> Found | None:
    # Each file may be there as it is or with the ending .gz.
    files, missing = [], []
    for name in layout.files[split]:
        existing = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        files.extend(existing[:1])
        missing.extend([] if existing else [name])
    if files and missing:
        raise DataError(f"{folder} has {files[0].name} but lacks {', '.join(missing)}. {mend}")
    return Found(folder, layout, tuple(files), mend) if files else None


def _find_by_file(spec: Spec, split: str, path: Path, mend: str) -> Found:
    # A file stands for the files of its form beside it, an archive for what is inside it.
    known = {name: layout for layout in spec.layouts for names in layout.files.values() for name in names}
    layout = known.get(path.name.removesuffix(".gz"))
    if layout is None:
        if any(path.match(pattern) for pattern in spec.archives) or _is_tar(path):
            return Found(path, None, (), mend)
        choices = ", ".join([*known, *spec.archives])
        raise DataError(f"{path} is not a known file of {spec.name}: expected an archive or one of {choices}. {mend}")
    found = _complete(path.parent, layout, split, mend)
    if found is None:
        names = ", ".join(layout.files[split])
        raise DataError(f"{path} has not the {split} split of {spec.name} beside it: expected {names}. {mend}")
    return found


def _is_tar(path: Path) -> bool:
    try:
        with open_regular(path) as file, tarfile.open(fileobj=_plain(file, 1 << 20), mode="r|"):
            return True
    except Exception:  # of whatever is none
        return False


def _parts(spec: Spec, split: str, found: Found) -> tuple[Layout, dict[str, bytes]]:
    # The bytes of the files, uncompressed, by name in official order.
    most = max(_LEAST, _MOST_COPIES * max(part.images for part in spec.splits.values()) * prod(spec.shape))
    if found.layout is not None:
        return found.layout, {path.name.removesuffix(".gz"): _content(path, most) for path in found.files}
    wanted = {name for layout in spec.layouts for name in layout.files[split]}
    members: dict[str, bytes] = {}
    # Members are read into memory and never unpacked, so no name in the archive can reach outside it.
    with open_regular(found.path) as file, tarfile.open(fileobj=_plain(file, 2 * most), mode="r|") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            plain = name.removesuffix(".gz")
            stream = archive.extractfile(member) if member.isfile() and plain in wanted else None
            if stream is not None:
                if member.size > most:
                    raise ValueError(f"{plain} claims {member.size:,} bytes")
                content = stream.read()
                members[plain] = gunzip(content, most) if content.startswith(GZIP_MAGIC) else content
    for layout in spec.layouts:
        names = layout.files[split]
        if all(name in members for name in names):
            return layout, {name: members[name] for name in names}
    raise ValueError(f"expected the {split} files of {spec.name}, found {', '.join(sorted(members)) or 'none of them'}")


def _plain(file: BinaryIO, most: int) -> Counted:
    """The uncompressed content of an archive, which ends in an error after so many bytes."""
    head = file.read(6)
    file.seek(0)
    for magic, opened in _COMPRESSIONS:
        if head.startswith(magic):
            return Counted(opened(file), most)
    return Counted(file, most)


def _content(path: Path, most: int) -> bytes:
    content = read_bytes(path, most)
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gunzip(content, most)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path.name}: the compressed data is damaged ({error})") from error


def _mend(spec: Spec, root: Path) -> str:
    """The sentence with the command whose result is found before the damaged files."""
    default = data_dir()
    if root.is_file() or root == default:
        return f"`fastplast data fetch {spec.name}` puts a verified copy into {default}."
    return f"`FASTPLAST_DATA={shlex.quote(str(root))} fastplast data fetch {spec.name}` puts a verified copy there."
