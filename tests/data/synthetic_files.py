"""Writes small synthetic datasets in the real byte formats, independently of the code under test."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CIFAR_NAMES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
IDX_PREFIX = {"train": "train", "test": "t10k"}


def make_arrays(shape, seed):
    """split -> (images uint8 [R, C*H*W], labels int64 [R])"""
    generator = np.random.default_rng(seed)
    size = int(np.prod(shape))
    return {
        split: (generator.integers(0, 256, (count, size), dtype=np.uint8), generator.integers(0, 10, count))
        for split, count in (("train", 20), ("test", 6))
    }


def digest(images, labels):
    return hashlib.sha256(images.tobytes() + bytes(labels.tolist())).hexdigest()


def idx_files(arrays, split, side=28, middle="-"):
    images, labels = arrays[split]
    prefix = IDX_PREFIX[split]
    return {
        f"{prefix}-images{middle}idx3-ubyte": struct.pack(">IIII", 2051, len(images), side, side) + images.tobytes(),
        f"{prefix}-labels{middle}idx1-ubyte": struct.pack(">II", 2049, len(labels)) + bytes(labels.tolist()),
    }


def npz_files(arrays, side=28):
    stream = io.BytesIO()
    np.savez(
        stream,
        x_train=arrays["train"][0].reshape(-1, side, side),
        y_train=arrays["train"][1].astype(np.uint8),
        x_test=arrays["test"][0].reshape(-1, side, side),
        y_test=arrays["test"][1].astype(np.uint8),
    )
    return {"mnist.npz": stream.getvalue()}


def cifar_batches(arrays, split):
    names = CIFAR_NAMES[split]
    return zip(names, np.array_split(arrays[split][0], len(names)), np.array_split(arrays[split][1], len(names)))


def cifar_binary_files(arrays, split):
    return {
        f"{name}.bin": b"".join(bytes([label]) + row.tobytes() for row, label in zip(images, labels.tolist()))
        for name, images, labels in cifar_batches(arrays, split)
    }


def short_string(content):
    """SHORT_BINSTRING, a Python 2 `str`."""
    return b"U" + bytes([len(content)]) + content


def python2_batch(images, labels, type_code=b"u1"):
    """A batch as Python 2's cPickle wrote the official ones, protocol 2, opcode by opcode."""
    rows, columns = images.shape
    content = images.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85" + short_string(b"b")
        + b"\x87Rq\x08(K\x01M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86"
        b"cnumpy\ndtype\nq\x09" + short_string(type_code) + b"K\x00K\x01\x87Rq\x0a(K\x03" + short_string(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(content)) + content + b"tb"
    )  # fmt: skip
    return (
        b"\x80\x02}q\x01(" + short_string(b"batch_label") + short_string(b"training batch 1 of 5")
        + short_string(b"labels") + b"]q\x04(" + b"".join(b"K" + bytes([label]) for label in labels.tolist()) + b"e"
        + short_string(b"data") + array
        + short_string(b"filenames") + b"]q\x0b(" + short_string(b"leptodactylus_s_000004.png") + b"eu."
    )  # fmt: skip


def cifar_python_files(arrays, split):
    return {name: python2_batch(images, labels) for name, images, labels in cifar_batches(arrays, split)}


def cifar_sheet_files(arrays, split, side=32):
    files = {}
    for name, images, _ in cifar_batches(arrays, split):
        rows = np.ascontiguousarray(images.reshape(-1, 3, side * side).transpose(0, 2, 1))
        stream = io.BytesIO()
        Image.fromarray(rows).save(stream, "PNG")
        files[f"{name}.png"] = stream.getvalue()
    files[f"{split}_lables.json"] = json.dumps(arrays[split][1].tolist()).encode()
    return files


def write_files(folder, files, is_gzip=False):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if is_gzip else name)
        path.write_bytes(gzip.compress(content) if is_gzip else content)
    return folder


def write_tar(path, files, prefix):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def both(writer, arrays, **options):
    """The files of both splits."""
    return {**writer(arrays, "train", **options), **writer(arrays, "test", **options)}
