"""Downsampled ImageNet of 32x32, in the forms that people have: npz or pickled batches, or a file per class.

ImageNet may not be passed on, so that there is nothing to fetch and no checksum: what is found is taken as it is, and
results say where it came from. Pickled batches are read without executing what a pickle can ask for (``batches``), and
arrays without pickles. Of each class the first 700 images are kept, as many as Continual ImageNet takes.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from fastplast.bounded import check_zip, open_regular, read_bytes, reason
from fastplast.data.arrays import Dataset
from fastplast.data.batches import read_batch
from fastplast.data.formats import checksum
from fastplast.data.local import data_dir
from fastplast.data.spec import DataError

PER_CLASS = 700
SIDE = 32
BATCHES = 10
CLASSES = 1000
_CLASS = re.compile(r"[0-9]{1,4}")
_MOST_BATCH = 1 << 30  # bytes; those of image-net.org have 394 million
_FOLDERS = (
    "imagenet32",
    "Imagenet32_train",
    "Imagenet32_train_npz",
    "classes",
    "data/classes",
    "imagenet32/classes",
    "",
)
_ARCHIVES = ("Imagenet32_train_npz.zip", "Imagenet32_train.zip")
_HELP = (
    "Put Imagenet32_train_npz.zip or Imagenet32_train.zip of image-net.org, their batches, or a folder classes/ of "
    "0.npy, 1.npy, ... there, or name the place with --data-dir."
)
Batch = tuple[str, Callable[[], bytes]]  # its name, and what reads it


def load_imagenet32(directory: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads 700 images of each class.

    Args:
        directory: a data directory, or the folder or archive itself; None takes FASTPLAST_DATA, else the platform's
            data directory.

    Returns:
        The dataset, in the order of classes.

    Raises:
        DataError: if there is nothing there, some of it is missing, or what is there is damaged.
    """
    root = data_dir(directory)
    for folder in (root / name for name in _FOLDERS) if root.is_dir() else ():
        files = {int(f.stem): f for f in folder.glob("*.npy") if _CLASS.fullmatch(f.stem)} if folder.is_dir() else {}
        if files:
            return _from_classes(folder, files)
        for archive in [folder / name for name in _ARCHIVES if (folder / name).is_file()]:
            return _from_batches(archive, _zipped(archive))
        batches = _loose(folder) if folder.is_dir() else []
        if batches:
            return _from_batches(folder, batches)
    if root.is_file() and root.suffix == ".zip":
        return _from_batches(root, _zipped(root))
    raise DataError(f"imagenet32 is not in {root}. {_HELP}")


def _from_classes(folder: Path, files: dict[int, Path]) -> Dataset:
    # One file per class, ``0.npy`` and so on, `[images, 3, 32, 32]`: the form of Continual ImageNet.
    missing = [number for number in range(max(files) + 1) if number not in files]
    if missing:
        raise DataError(f"{folder} lacks {missing[0]}.npy of its {max(files) + 1} classes. {_HELP}")
    images = []
    for number in range(len(files)):
        try:
            with open_regular(files[number]) as file:
                pixels = np.load(file, allow_pickle=False)[:PER_CLASS]
        except Exception as error:  # numpy's parser of headers fails in some ten ways
            raise DataError(f"{files[number]} must be a readable .npy without pickles: {reason(error)}.") from error
        if pixels.ndim != 4 or pixels.shape[1:] != (3, SIDE, SIDE):
            raise DataError(f"{files[number]} must be [images, 3, 32, 32]: got {list(pixels.shape)}.")
        images.append(_as_numbers(pixels, files[number]).reshape(len(pixels), 3 * SIDE**2))
    if not any(len(part) for part in images):
        raise DataError(f"{folder} must hold images: got none. {_HELP}")
    if len({part.dtype for part in images}) > 1:
        raise DataError(f"{folder} must hold files of one type: got bytes in some and other numbers in others.")
    labels = np.repeat(np.arange(len(images)), [len(part) for part in images])
    return _dataset(np.concatenate(images), labels, len(images), f"classes in {folder}", folder)


def _as_numbers(pixels: np.ndarray, path: Path) -> np.ndarray:
    # Bytes, of whatever type their numbers are stored in, or float32.
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            numbers = pixels.astype(np.float32, copy=False)
        if not np.isfinite(numbers).all():
            raise DataError(f"{path} must hold finite numbers: got NaN or infinity.")
        return numbers
    if pixels.dtype.kind not in "iu" or (pixels.size and not 0 <= pixels.min() <= pixels.max() <= 255):
        raise DataError(f"{path} must hold bytes or floating point numbers: got {pixels.dtype}.")
    return pixels.astype(np.uint8, copy=False)


def _from_batches(place: Path, batches: list[Batch]) -> Dataset:
    # Ten batches, `data` `[images, 3072]` and `labels` from 1: the form of image-net.org.
    if len(batches) != BATCHES:
        names = ", ".join(name for name, _ in batches) or "none of them"
        raise DataError(f"{place} must hold train_data_batch_1 to {BATCHES}: got {names}. {_HELP}")
    kept: list[list[np.ndarray]] = [[] for _ in range(CLASSES)]
    counts = np.zeros(CLASSES, dtype=np.int64)
    for pixels, labels in _read(place, batches):
        for number in np.unique(labels):
            rows = np.flatnonzero(labels == number)[: PER_CLASS - counts[number]]
            kept[number].append(pixels[rows])
            counts[number] += len(rows)
    if not counts.any():
        raise DataError(f"{place} must hold images: got none. {_HELP}")
    present = int(np.flatnonzero(counts)[-1]) + 1
    images = np.concatenate([part for parts in kept for part in parts])
    labels = np.repeat(np.arange(present), counts[:present])
    return _dataset(images, labels, present, f"batches in {place}", place)


def _read(place: Path, batches: list[Batch]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for name, content in batches:
        try:
            pixels, labels = _decode(name, content())
        except Exception as error:  # damaged zips, arrays and pickles fail in some ten ways between them
            raise DataError(f"{place}: {name} must be a readable batch: {reason(error)}.") from error
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * SIDE**2):
            raise DataError(f"{place}: {name} must hold bytes [images, 3072]: got {pixels.dtype} {list(pixels.shape)}.")
        if len(labels) and not 1 <= labels.min() <= labels.max() <= CLASSES:
            raise DataError(f"{place}: {name} must hold labels from 1 to {CLASSES}.")
        yield pixels, labels - 1


def _decode(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    if not name.endswith(".npz"):
        return read_batch(content, CLASSES)
    with zipfile.ZipFile(io.BytesIO(content)) as entries:
        check_zip(entries, len(content), _MOST_BATCH)
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return archive["data"], archive["labels"].astype(np.int64).reshape(-1)


def _number(name: str) -> int | None:
    stem = name.rpartition("/")[2].removesuffix(".npz")
    number = stem.removeprefix("train_data_batch_")
    return int(number) if number != stem and _CLASS.fullmatch(number) else None


def _loose(folder: Path) -> list[Batch]:
    found = {_number(path.name): path for path in sorted(folder.glob("train_data_batch_*"), reverse=True)}
    numbered = sorted((number, path) for number, path in found.items() if number is not None)
    return [(path.name, partial(read_bytes, path, _MOST_BATCH)) for _, path in numbered]


def _zipped(archive: Path) -> list[Batch]:
    try:
        with open_regular(archive) as file, zipfile.ZipFile(file) as opened:
            check_zip(opened, archive.stat().st_size, _MOST_BATCH)
            names = {_number(name): name for name in opened.namelist()}
    except Exception as error:
        raise DataError(f"{archive} must be a readable zip archive: {reason(error)}.") from error

    def read(name: str) -> bytes:
        with zipfile.ZipFile(archive) as opened:
            return opened.read(name)  # into memory: no name in the archive can reach outside it

    return [(name, partial(read, name)) for number, name in sorted((n, x) for n, x in names.items() if n is not None)]


def _dataset(images: np.ndarray, labels: np.ndarray, classes: int, source: str, path: Path) -> Dataset:
    images = np.ascontiguousarray(images)
    digest = checksum(images.view(np.uint8), labels % 256)
    return Dataset("imagenet32", images, labels.astype(np.int64), (3, SIDE, SIDE), classes, source, path, digest)
