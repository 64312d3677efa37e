"""The byte formats of the datasets: what each one's files are called, and how they decode and encode.

A decoder takes the (already uncompressed) bytes of the files by name and returns `images`, uint8 `[R, C*H*W]` with
channels first, and `labels`, int64 `[R]`, in the order of the files. It checks that sizes agree with what the files say
of themselves, and raises ValueError with the name of the file at fault. Whether the result is the *official* data is
another question, answered by its checksum (`local.read`).
"""

import hashlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastplast.bounded import check_zip, reason
from fastplast.data.batches import read_batch

Arrays = tuple[np.ndarray, np.ndarray]
Shape = tuple[int, int, int]

IDX_IMAGES_MAGIC = 0x00000803  # type 08 (unsigned byte), three dimensions
IDX_LABELS_MAGIC = 0x00000801
_MOST_IMAGES = 100_000  # of a file; the largest official one has 60,000


@dataclass(frozen=True)
class Layout:
    """One form in which a dataset is published.

    Attributes:
        name: what the form is called in messages, such as "IDX files".
        files: split -> names of its files, in official order.
        decode: (file name -> bytes in official order, split, (C, H, W)) -> (images uint8 `[R, C*H*W]`, labels int64
            `[R]`).
        encode: the inverse, (images, labels, split, (C, H, W)) -> file name -> bytes; only of a form that is written.
    """

    name: str
    files: dict[str, tuple[str, ...]]
    decode: Callable[[dict[str, bytes], str, Shape], Arrays]
    encode: Callable[[np.ndarray, np.ndarray, str, Shape], dict[str, bytes]] | None = None


def checksum(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of the decoded data: all pixel bytes, then one byte for each label, both in official order.

    The same images and labels have the same checksum in whatever container they came.

    Args:
        images: uint8 `[R, C*H*W]`, channels first.
        labels: whole numbers in 0..255, `[R]`.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(labels.astype(np.uint8).tobytes())
    return digest.hexdigest()


def decode_idx(parts: dict[str, bytes], split: str, shape: Shape) -> Arrays:
    """Decodes two IDX files: a big-endian magic number and sizes, then unsigned bytes.

    Raises:
        ValueError: a header is wrong, or a size differs from what the header says.
    """
    (image_name, image_bytes), (label_name, label_bytes) = parts.items()
    magic, count, height, width = _header(image_name, image_bytes, 4)
    if magic != IDX_IMAGES_MAGIC or (height, width) != shape[1:]:
        raise ValueError(
            f"{image_name}: expected an IDX file of {shape[1]} x {shape[2]} images, "
            f"found magic number {magic:#010x} and {height} x {width}"
        )
    _expect_size(image_name, image_bytes, 16 + count * height * width)
    magic, label_count = _header(label_name, label_bytes, 2)
    if magic != IDX_LABELS_MAGIC:
        raise ValueError(f"{label_name}: expected an IDX file of labels, found magic number {magic:#010x}")
    _expect_size(label_name, label_bytes, 8 + label_count)
    if label_count != count:
        raise ValueError(f"{label_name}: expected {count:,} labels, one for each image, found {label_count:,}")
    images = np.frombuffer(image_bytes, np.uint8, offset=16).reshape(count, -1)
    # A copy: arrays over bytes are read-only, and torch.from_numpy warns about those.
    return images.copy(), np.frombuffer(label_bytes, np.uint8, offset=8).astype(np.int64)


def encode_idx(images: np.ndarray, labels: np.ndarray, split: str, shape: Shape) -> dict[str, bytes]:
    """The inverse of `decode_idx`: the official data gives the official (uncompressed) files, byte for byte."""
    image_name, label_name = IDX.files[split]
    return {
        image_name: struct.pack(">4I", IDX_IMAGES_MAGIC, len(images), *shape[1:]) + images.tobytes(),
        label_name: struct.pack(">2I", IDX_LABELS_MAGIC, len(labels)) + labels.astype(np.uint8).tobytes(),
    }


def decode_npz(parts: dict[str, bytes], split: str, shape: Shape) -> Arrays:
    """Decodes Keras's one archive of the arrays `x_train` `[R, H, W]`, `y_train` `[R]`, `x_test` and `y_test`.

    Raises:
        ValueError: it is no such archive.
    """
    ((name, content),) = parts.items()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as entries:
            check_zip(entries, len(content), _MOST_IMAGES * math.prod(shape))
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            images, labels = archive[f"x_{split}"], archive[f"y_{split}"]
    except Exception as error:  # of a damaged one, zipfile and numpy's header parser raise some ten types between them
        raise ValueError(f"{name}: not a readable archive of x_{split} and y_{split}: {reason(error)}") from error
    if images.dtype != np.uint8 or images.shape[1:] != shape[1:]:
        raise ValueError(
            f"{name}: expected uint8 images of {shape[1]} x {shape[2]}, "
            f"found {images.dtype} of {' x '.join(map(str, images.shape[1:]))}"
        )
    return images.reshape(len(images), -1), _labels(name, labels, len(images))


def decode_cifar_binary(parts: dict[str, bytes], split: str, shape: Shape) -> Arrays:
    """Decodes records of a label byte and C*H*W pixel bytes, channels first, in one or several files.

    Raises:
        ValueError: a file is not a whole number of records.
    """
    record = 1 + math.prod(shape)
    for name, content in parts.items():
        if not content or len(content) % record:
            raise ValueError(f"{name}: expected a multiple of {record:,} bytes, found {len(content):,}")
    records = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, record) for content in parts.values()])
    return np.ascontiguousarray(records[:, 1:]), records[:, 0].astype(np.int64)


def encode_cifar_binary(images: np.ndarray, labels: np.ndarray, split: str, shape: Shape) -> dict[str, bytes]:
    """The inverse of `decode_cifar_binary`: equal numbers of records in the official files, byte for byte theirs."""
    records = np.concatenate([labels.astype(np.uint8)[:, None], images], axis=1)
    names = CIFAR_BINARY.files[split]
    return {name: chunk.tobytes() for name, chunk in zip(names, np.array_split(records, len(names)))}


def decode_cifar_python(parts: dict[str, bytes], split: str, shape: Shape) -> Arrays:
    """Decodes the pickled batches of the Python version, without executing them (`batches.read_batch`).

    Raises:
        ValueError: a file is no such batch, or asks for more than numpy's arrays.
    """
    batches = []
    for name, content in parts.items():
        try:
            images, labels = read_batch(content)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if images.shape[1] != math.prod(shape):
            raise ValueError(f"{name}: expected {math.prod(shape):,} pixels an image, found {images.shape[1]:,}")
        batches.append((images, labels))
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def decode_cifar_sheets(parts: dict[str, bytes], split: str, shape: Shape) -> Arrays:
    """Decodes PNG sheets, each row of pixels one image `[H*W, C]`, and the JSON list of the labels of all sheets.

    Raises:
        ValueError: a sheet or the list is damaged, or their sizes disagree.
    """
    from PIL import Image

    *sheets, (label_name, label_bytes) = parts.items()
    channels, pixels = shape[0], shape[1] * shape[2]
    images = []
    for name, content in sheets:
        try:
            with Image.open(io.BytesIO(content), formats=["PNG"]) as sheet:
                if sheet.mode != "RGB" or sheet.width != pixels:
                    raise ValueError(f"expected RGB rows of {pixels:,} pixels, found {sheet.mode} of {sheet.width:,}")
                if sheet.height > _MOST_IMAGES:
                    raise ValueError(f"expected at most {_MOST_IMAGES:,} rows, found {sheet.height:,}")
                rows = np.asarray(sheet)
        except Exception as error:  # Pillow reports what is broken in some ten ways
            raise ValueError(f"{name}: not a readable sheet of images: {reason(error)}") from error
        images.append(rows.transpose(0, 2, 1).reshape(-1, channels * pixels))
    count = sum(map(len, images))
    try:
        labels = np.array(json.loads(label_bytes))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{label_name}: not a readable list of labels: {reason(error)}") from error
    return np.concatenate(images), _labels(label_name, labels, count)


def _header(name: str, content: bytes, words: int) -> tuple[int, ...]:
    if len(content) < 4 * words:
        raise ValueError(f"{name}: expected at least {4 * words} bytes, found {len(content)}")
    return struct.unpack_from(f">{words}I", content)


def _expect_size(name: str, content: bytes, size: int) -> None:
    if len(content) != size:
        raise ValueError(f"{name}: expected {size:,} bytes, found {len(content):,}")


def _labels(name: str, labels: np.ndarray, count: int) -> np.ndarray:
    # Labels must fit in a byte, so that the checksum speaks of the whole of each.
    is_vector = labels.shape == (count,) and labels.dtype.kind in "iu"
    if not is_vector or (count and not 0 <= labels.min() <= labels.max() < 256):
        raise ValueError(f"{name}: expected {count:,} labels in 0..255, found {labels.dtype} of shape {labels.shape}")
    return labels.astype(np.int64)


def _by_split(pattern: str) -> dict[str, tuple[str, ...]]:
    """The five training batches and the test batch of CIFAR-10, by a pattern for their names."""
    return {
        "train": tuple(pattern.format(f"data_batch_{number}") for number in range(1, 6)),
        "test": (pattern.format("test_batch"),),
    }


IDX = Layout(
    "IDX files",
    {
        "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    },
    decode_idx,
    encode_idx,
)
# The same files as some archivers unpack them, with a dot.
_DOTTED = {split: tuple(name.replace("-idx", ".idx") for name in names) for split, names in IDX.files.items()}
IDX_DOTTED = Layout("IDX files", _DOTTED, decode_idx)
KERAS_NPZ = Layout("Keras archive", {"train": ("mnist.npz",), "test": ("mnist.npz",)}, decode_npz)
CIFAR_BINARY = Layout("CIFAR-10 binary batches", _by_split("{}.bin"), decode_cifar_binary, encode_cifar_binary)
CIFAR_PYTHON = Layout("CIFAR-10 Python batches", _by_split("{}"), decode_cifar_python)
CIFAR_SHEETS = Layout(
    "CIFAR-10 PNG sheets",
    {
        # The spelling "lables" is the package's own.
        "train": (*_by_split("{}.png")["train"], "train_lables.json"),
        "test": (*_by_split("{}.png")["test"], "test_lables.json"),
    },
    decode_cifar_sheets,
)
