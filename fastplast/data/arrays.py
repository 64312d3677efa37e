"""Labelled images in memory, and a user's own: arrays, an ``.npz`` of them, or a folder with a folder per class."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastplast.bounded import check_zip, open_regular, reason
from fastplast.data.formats import Shape, checksum
from fastplast.data.spec import DataError

if TYPE_CHECKING:
    from PIL import Image

_NAMES = (
    ("images", "labels"),
    ("x_train", "y_train"),
    ("x", "y"),
    ("data", "labels"),
    ("train_images", "train_labels"),
)
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one split, in official order (or, of an embedded subset, in ascending official order).

    Attributes:
        name: the dataset's name, a key of `DATASETS`.
        images: uint8 `[R, C*H*W]`, channels first, flattened, 0 to 255; or float32, inputs as they are.
        labels: int64 `[R]`, 0 to `num_classes` - 1.
        shape: (C, H, W).
        num_classes: number of classes.
        source: where it is from, such as "embedded (1,280 of 60,000 training images)" or "full (IDX files in <path>)".
        path: the folder or archive it was read from; None for an embedded subset.
        checksum: SHA-256 of the pixel bytes and then the labels, one byte each, in order.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    shape: Shape
    num_classes: int
    source: str
    path: Path | None
    checksum: str

    @property
    def identity(self) -> str:
        """SHA-256 of all that training can see of it: type, shape and content of images and labels."""
        kind = f"{self.images.dtype} {self.shape} {self.num_classes} {self.checksum}"
        return hashlib.sha256(kind.encode() + np.ascontiguousarray(self.labels, np.int64).tobytes()).hexdigest()

    @property
    def is_embedded(self) -> bool:
        """Whether this is the subset inside the package and not the full split."""
        return self.path is None


def from_arrays(images: np.ndarray, labels: np.ndarray, name: str = "own", source: str = "arrays") -> Dataset:
    """A dataset from arrays, for ``fastplast.train(experiment, dataset=...)``.

    Args:
        images: uint8 or float32 `[R, D]` (a table), `[R, H, W]`, `[R, C, H, W]` or `[R, H, W, C]` with 1 or 3
            channels; floating point numbers are inputs as they are. Arrays of NumPy, PyTorch, CuPy or JAX, on any
            device.
        labels: whole numbers `[R]` or `[R, 1]`; the classes are those that occur, in ascending order.
        name: what results call it.
        source: where it is from, in words.

    Returns:
        The dataset.

    Raises:
        DataError: if shapes or types do not fit together, or an image holds NaN or infinity.

    Example:
        >>> import numpy as np
        >>> from_arrays(np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 1, 0])).shape
        (1, 8, 8)
    """
    images, labels = _on_host(images), _on_host(labels)
    if images.dtype == np.float64:
        images = images.astype(np.float32)
    if images.ndim == 2:  # a row of features for each example
        images = images[:, None, None]
    if images.dtype not in (np.uint8, np.float32) or images.ndim not in (3, 4):
        raise DataError(
            "images must be uint8 or float32 of shape [R, D], [R, H, W], [R, C, H, W] or [R, H, W, C]: got "
            f"{images.dtype} of {list(images.shape)} from {source}."
        )
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(
            f"labels must be whole numbers, one for each of {len(images)} images: got {labels.dtype} of "
            f"{list(labels.shape)} from {source}."
        )
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1] not in (1, 3):
        raise DataError(
            f"images must have 1 or 3 channels, first or last: got {list(images.shape)} from {source}. "
            "Leave out an alpha channel."
        )
    if images.dtype == np.float32 and not np.isfinite(images).all():
        raise DataError(f"images must be finite: got NaN or infinity from {source}.")
    classes, numbers = np.unique(labels, return_inverse=True)
    channels, height, width = images.shape[1:]
    flat = np.ascontiguousarray(images.reshape(len(images), prod(images.shape[1:])))
    if not flat.flags.writeable:  # PyTorch has no tensors that are read only
        flat = flat.copy()
    digest = checksum(flat.view(np.uint8), numbers)
    numbers = numbers.astype(np.int64)
    return Dataset(name, flat, numbers, (channels, height, width), len(classes), source, Path(source), digest)


def make_bits(count: int = 20) -> Dataset:
    """The dataset ``bits``: image i is the number i in binary digits, as bytes 0 and 255, of one class.

    Args:
        count: of digits.

    Returns:
        Two to the power of `count` images of shape (1, 1, count).
    """
    numbers = np.arange(2**count, dtype=np.int32)[:, None]
    images = (((numbers >> np.arange(count - 1, -1, -1)) & 1) * 255).astype(np.uint8)
    return from_arrays(images[:, None], np.zeros(len(images), np.int64), "bits", f"all numbers of {count} bits")


def _on_host(values: Any) -> np.ndarray:
    """An array as NumPy's; memory of a GPU is handed over by DLPack and copied to the host."""
    if isinstance(values, np.ndarray) or not hasattr(values, "__dlpack__"):
        return np.asarray(values)
    import torch

    return torch.from_dlpack(values).cpu().numpy()


def load_own(path: str | os.PathLike[str]) -> Dataset:
    """A dataset of the user's: an ``.npz`` without pickles, or a folder that has a folder of images for each class.

    Args:
        path: of an ``.npz`` with ``images`` and ``labels`` (or ``x_train`` and ``y_train``, ``x`` and ``y``), or of the
            folder; its classes are its folders in alphabetical order.

    Returns:
        The dataset, called by the path.

    Raises:
        DataError: if there is nothing there, or what is there is no such thing.
    """
    place = Path(path).expanduser()
    if place.is_file() and place.suffix == ".npz":
        return _from_npz(place, str(path))
    if place.is_dir():
        return _from_folder(place, str(path))
    raise DataError(f"--dataset must be a folder of images by class or an .npz: got {path}, which is no such thing.")


def _from_npz(path: Path, name: str) -> Dataset:
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as entries:
            check_zip(entries, path.stat().st_size)
        with np.load(path, allow_pickle=False) as archive:
            for images, labels in _NAMES:
                if images in archive and labels in archive:
                    return from_arrays(archive[images], archive[labels].reshape(-1), name, str(path))
            found = ", ".join(archive.files) or "nothing"
    except DataError:
        raise
    except Exception as error:  # as for the archives in formats.decode_npz
        raise DataError(f"{path} must be a readable .npz without pickles: {reason(error)}.") from error
    names = " or ".join(f"{a} and {b}" for a, b in _NAMES)
    raise DataError(f"{path} must hold {names}: got {found}.")


def _is_visible(path: Path) -> bool:
    """Whether it is no file of an operating system's, such as ``._1.png`` and ``__MACOSX``."""
    return not path.name.startswith(".") and path.name != "__MACOSX"


def _pixels_of(image: Image.Image) -> np.ndarray:
    # Bytes `[H, W]` of a grey image, of which 16 bits are cut to the upper 8, or `[H, W, 3]`.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels are not bytes but of mode {image.mode}")
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def _from_folder(root: Path, name: str) -> Dataset:
    from PIL import Image, UnidentifiedImageError

    pixels: list[np.ndarray] = []
    labels: list[int] = []
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir() and _is_visible(folder))
    for number, folder in enumerate(classes):
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _ENDINGS and _is_visible(file))
        if not files:
            raise DataError(f"{folder} must hold images ({', '.join(_ENDINGS)}): got none.")
        for file in files:
            try:
                # No other formats: of some, such as PostScript, Pillow starts a program.
                with open_regular(file) as stream, Image.open(stream, formats=_FORMATS) as image:
                    pixels.append(_pixels_of(image))
            except UnidentifiedImageError:
                raise DataError(f"{file} must be a readable image: it is none of {', '.join(_FORMATS)}.") from None
            except Exception as error:  # Pillow reports what is broken in some ten ways
                raise DataError(f"{file} must be a readable image: {reason(error)}.") from error
            if pixels[-1].shape != pixels[0].shape:
                raise DataError(
                    f"images must have one size and all be grey or all in colour: got {list(pixels[-1].shape)} in "
                    f"{file}, after {list(pixels[0].shape)}. Convert them first."
                )
            labels.append(number)
    if not labels:
        raise DataError(f"{root} must have a folder of images for each class: got none.")
    return from_arrays(np.stack(pixels), np.array(labels), name, str(root))
