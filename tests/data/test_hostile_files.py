"""Data of any content is the dataset or a DataError, within seconds and without much memory; nothing is executed."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image
from synthetic_files import both, cifar_python_files, cifar_sheet_files, idx_files, make_arrays, npz_files, write_files

from fastplast.data import DataError, load, load_own
from fastplast.data.batches import read_batch
from fastplast.data.imagenet import load_imagenet32

MEBI = 1 << 20
IMAGES, LABELS = make_arrays((3, 32, 32), seed=0)["train"]


@pytest.fixture
def small_memory():
    """Fails the test if Python objects and arrays took more than 200 MiB at once."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * MEBI


def of_itself(levels: int) -> bytes:
    """A program that makes a tuple of one tuple twice, that of another, and so on."""
    return b")q\x00" + b"".join(
        b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(levels)
    )


PROGRAMS = {
    "the largest number": b"Nr\x00\x00\x00\x10.",
    "a number of Python 1": b"Np268435456\n.",
    "a key that is a tuple of itself": b"}" + of_itself(60) + b"Ns.",
    "a shape that is a tuple of itself": b"}(X\x04\x00\x00\x00data" + of_itself(60) + b"u.",
    "duplicated": b"}N" + b"2\x86" * 40 + b"Ns.",
    "a list of itself": b"}](lq\x00" + b"".join(b"]q" + bytes([i + 1]) + b"h" + bytes([i]) + b"ah" + bytes([i]) + b"a"
                                                  for i in range(40)) + b"Ns.",
    "text that is encoded for ever": b"c_codecs\nencode\nq\x00X\x00\x00\x10\x00" + b"a" * MEBI + b"q\x010]"
    + b"h\x00h\x01\x85Ra" * 2000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_pickle_of_few_bytes_takes_neither_memory_nor_time(name, small_memory):
    with pytest.raises(ValueError, match="CIFAR-10 batch") as caught:
        read_batch(PROGRAMS[name])
    assert len(str(caught.value)) < 500


def zeros_in_gzip(size: int) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        for _ in range(size // MEBI):
            file.write(bytes(MEBI))
    return buffer.getvalue()


def test_files_of_zeros_end_at_the_size_of_the_dataset(root, small_memory):
    zeros = zeros_in_gzip(300 * MEBI)
    (root / "train-images-idx3-ubyte.gz").write_bytes(zeros)
    (root / "train-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: the compressed data is damaged .*more than 141"):
        load("mnist")


def test_archives_of_zeros_and_of_claims_end_at_the_size_of_the_dataset(root, small_memory):
    (root / "cifar-10-python.tar.gz").write_bytes(zeros_in_gzip(1000 * MEBI))
    with pytest.raises(DataError, match="is damaged or in no known form of cifar10"):
        load("cifar10")
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        entry.size = 8 << 30
        archive.addfile(entry)  # without its content
    with pytest.raises(DataError, match="data_batch_1 claims 8,589,934,592 bytes"):
        load("cifar10")


def test_an_archive_of_arrays_that_claims_more_than_it_can_hold_is_refused(tmp_path, root, small_memory):
    with zipfile.ZipFile(tmp_path / "own.npz", "w", zipfile.ZIP_DEFLATED) as archive, \
         archive.open("images.npy", "w") as file:  # fmt: skip
        for _ in range(300):
            file.write(bytes(MEBI))
    with pytest.raises(DataError, match=r"images.npy claims 314,572,800 bytes in a file of"):
        load_own(tmp_path / "own.npz")
    (root / "mnist.npz").write_bytes((tmp_path / "own.npz").read_bytes())
    with pytest.raises(DataError, match=r"claims 314,572,800 bytes"):
        load("mnist")


@pytest.mark.parametrize("name", ["9999999999.npy", "²0.npy"])
def test_names_of_classes_are_small_numbers(name, root, small_memory):
    (root / "imagenet32").mkdir()
    (root / "imagenet32" / name).write_bytes(b"")
    with pytest.raises(DataError, match="imagenet32 is not in"):
        load_imagenet32()


def test_classes_that_are_not_finite_are_refused(root):
    (root / "imagenet32").mkdir()
    np.save(root / "imagenet32" / "0.npy", np.full((2, 3, 32, 32), np.nan, np.float32))
    with pytest.raises(DataError, match="must hold finite numbers"):
        load_imagenet32()


READERS = {
    "a picture": ("own/a/1.png", lambda root: load_own(root / "own")),
    "an archive": ("own.npz", lambda root: load_own(root / "own.npz")),
    "a class": ("imagenet32/0.npy", lambda root: load_imagenet32()),
}


@pytest.mark.parametrize("what", READERS)
def test_a_pipe_is_refused_in_place_of_a_file(what, root):
    name, read = READERS[what]
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(root / name)
    with pytest.raises(DataError, match=r"regular file|no such thing"):
        read(root)


def test_a_picture_that_is_a_program_is_not_started(tmp_path):
    (tmp_path / "own" / "a").mkdir(parents=True)
    (tmp_path / "own" / "a" / "1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n")
    code = (
        "import subprocess, sys, fastplast.data as data\n"
        "sys.addaudithook(lambda name, _: sys.exit(9) if name in ('subprocess.Popen', 'os.system') else None)\n"
        "try: data.load_own(sys.argv[1])\nexcept data.DataError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "own"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "must be a readable image" in done.stdout


def _folder(root):
    for number in range(2):
        (root / "own" / str(number)).mkdir(parents=True)
        for name, ending in (("a", "png"), ("b", "bmp"), ("c", "pgm")):
            Image.fromarray(IMAGES[number].reshape(3, 32, 32)[0]).save(root / "own" / str(number) / f"{name}.{ending}")


def _classes(root):
    (root / "imagenet32").mkdir()
    for number in range(3):
        np.save(root / "imagenet32" / f"{number}.npy", IMAGES[:4].reshape(4, 3, 32, 32))


def _own_npz(root):
    np.savez_compressed(root / "own.npz", images=IMAGES.reshape(-1, 3, 32, 32), labels=LABELS)


KINDS = {
    "idx": (lambda root, arrays: write_files(root, both(idx_files, arrays.mnist), True), lambda root: load("mnist")),
    "npz": (lambda root, arrays: write_files(root, npz_files(arrays.mnist)), lambda root: load("mnist")),
    "pickles": (lambda root, arrays: write_files(root, both(cifar_python_files, arrays.cifar10)),
                lambda root: load("cifar10")),
    "sheets": (lambda root, arrays: write_files(root, both(cifar_sheet_files, arrays.cifar10)),
               lambda root: load("cifar10")),
    "folder": (lambda root, arrays: _folder(root), lambda root: load_own(root / "own")),
    "own archive": (lambda root, arrays: _own_npz(root), lambda root: load_own(root / "own.npz")),
    "classes": (lambda root, arrays: _classes(root), lambda root: load_imagenet32()),
}  # fmt: skip


def damage(rng: random.Random, data: bytes) -> bytes:
    """Data with a part cut, flipped, doubled, overwritten, or all of it replaced."""
    at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2)) if data else (0, 0)
    kind = rng.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1 and data:
        at = rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[at : min(end, at + 64)] + data[at:]
    if kind == 3:
        return data[:at] + rng.randbytes(8) + data[at + 8 :]
    return rng.choice([b"", b"\0" * 64, json.dumps([[]]).encode(), rng.randbytes(64)])


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_data_are_the_data_or_the_documented_error(kind, root, tiny):
    write, read = KINDS[kind]
    write(root, tiny)
    rng, files = random.Random(0), sorted(path for path in root.rglob("*") if path.is_file())
    before = {path: path.read_bytes() for path in files}
    read(root)
    for _ in range(40):
        path = rng.choice(files)
        path.write_bytes(damage(rng, before[path]))
        with contextlib.suppress(DataError):
            read(root)
        path.write_bytes(before[path])
    assert {path for path in root.rglob("*") if path.is_file()} == set(files)


def test_what_a_killed_fetch_left_is_removed_by_a_later_one(root, tiny):
    from fastplast.data import sources

    old, young = root / ".fetch-old", root / ".fetch-young"
    for stage in (old, young):
        stage.mkdir()
        (stage / "part").write_bytes(b"x")
    os.utime(old, (0, 0))
    own = root.parent / "own"
    write_files(own, both(idx_files, tiny.mnist))
    sources.fetch("mnist", from_path=own)
    assert (old.exists(), young.exists()) == (False, True)
    shutil.rmtree(young)
