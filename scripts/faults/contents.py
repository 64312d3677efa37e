"""Files of any content: of a run, and everything else that is read.

Each function tries `count` contents more in an empty folder `work`, after `first` others.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from limits import BYTES, CORE_SECONDS, tries
from PIL import Image
from trained import Row, damaged, experiment, go_on, results

import fastplast as fp
from fastplast.config import load_config
from fastplast.data import DataError, load_own
from fastplast.data.batches import read_batch
from fastplast.data.imagenet import load_imagenet32
from fastplast.runs.archive import write_archive
from fastplast.runs.files import StoreError
from fastplast.runs.parquet import with_digest
from fastplast.runs.run import Run
from fastplast.runs.status import status
from fastplast.sweeps import expand, read_grid, read_request
from fastplast.training.start import start

if TYPE_CHECKING:
    import pandas

LONGEST_ERROR = 2000  # characters
_DIGEST = b"fastplast-sha256"  # before 32 bytes, in exported results
Seal = Callable[[bytes], bytes]


class Reader(NamedTuple):
    """What is read.

    Attributes:
        wholes: contents, any of which may be damaged.
        read: what reads another in its place.
        error: the documented one, and no other.
        seal: makes lengths, compression and checksums fit a content; for half of the tries it is damaged before.
    """

    wholes: Sequence[bytes]
    read: Callable[[bytes], object]
    error: type[Exception] | tuple[type[Exception], ...]
    seal: Seal = bytes


def stopped(path: Path) -> None:
    """Trains a run until it is stopped within its third task."""
    answers = iter([False] * 4 + [True])
    _, events = start(experiment(path), stop=lambda: next(answers))
    list(events)


def files_of_runs(work: Path, count: int, first: int = 0) -> list[Row]:
    """Every kind of file of a run, finished or stopped, is damaged; readers and ``resume`` give the same or name it."""
    rows = []
    go_on(work / "finished")
    stopped(work / "stopped")
    for name in ("finished", "stopped"):
        row = Row(
            f"a file of a {name} run cut, flipped, overwritten or of a newer version, each kind",
            "the same table, or an error that names a file; resumed to the same bytes, or refused: a newer version, "
            "and a damaged configuration, environment or only checkpoint",
        )
        table = fp.load(work / name).metrics()
        kinds = sorted(path.relative_to(work / name) for path in (work / name).rglob("*") if path.is_file())
        kinds = [kind for kind in kinds if kind.name != ".lock"]

        def attempt(number: int, name: str = name, kinds: list[Path] = kinds, table: Any = table) -> str | None:
            return with_damaged_file(work, name, kinds[number % len(kinds)], table, number)

        for wrong in tries(attempt, range(first, first + count)):
            row.count(wrong)
        rows.append(row)
    return rows


def with_damaged_file(work: Path, name: str, kind: Path, table: pandas.DataFrame, number: int) -> str | None:
    """Reads and resumes a run of which a file is damaged.

    Args:
        work: holds the whole runs.
        name: of the whole run.
        kind: which of its files.
        table: its metrics.
        number: decides the damage.

    Returns:
        What was wrong, or None.
    """
    path, what = work / "run", f"try {number}: {kind} of a {name} run"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(work / name, path)
    (path / kind).write_bytes(damaged(random.Random(f"{name} {number}"), (path / kind).read_bytes()))
    try:
        run = Run(path)
        status(path)
        run.spectra(0)
        run.epochs()
        if not run.metrics().equals(table):
            return f"{what}: another table"
    except (StoreError, ValueError, FileNotFoundError) as error:
        if str(path) not in str(error):
            return f"{what}: {error}"
    except Exception as error:
        return f"{what}: {type(error).__name__}: {error}"
    try:
        go_on(path)
    except (StoreError, ValueError) as error:
        alone = {"config.json", "env.json"} | ({"checkpoint"} if name == "finished" else set())
        may_be_refused = kind.parts[0] in alone or "must have run schema" in str(error)
        return None if may_be_refused and kind.name in str(error) else f"{what}: resume: {error}"
    except Exception as error:
        return f"{what}: resume: {type(error).__name__}: {error}"
    return None if results(path) == results(work / "finished") else f"{what}: other bytes after resuming"


def _npz(images: bytes) -> bytes:
    """An archive of arrays: four labels, and images as a content of ``.npy``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", _npy(np.arange(4)))
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _picture(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _with_checksums(picture: bytes) -> bytes:
    """A PNG whose chunks have the right checksums; any other content as it is."""
    if not picture.startswith(b"\x89PNG\r\n\x1a\n"):
        return picture
    pieces, at = [picture[:8]], 8
    while len(picture) >= at + 12 and len(picture) >= (end := at + 8 + int.from_bytes(picture[at : at + 4], "big")):
        pieces += [picture[at:end], zlib.crc32(picture[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join([*pieces, picture[at:]])


def _without_digest(exported: bytes) -> bytes:
    before, _, after = exported.partition(_DIGEST)
    return before + after[32:]


def _with_digest(content: bytes) -> bytes:
    return b"".join(with_digest(content))


def readers(work: Path) -> dict[str, Reader]:
    """What is read, by name; files lie in `work`."""
    pixels = np.arange(4 * 3 * 32 * 32, dtype=np.uint8).reshape(4, 3, 32, 32)
    go_on(work / "run")
    exported = write_archive(fp.load(work / "run"), work / "a.parquet").read_bytes()
    batches = [pickle.dumps({"data": pixels[:, 0, 0, :4], "labels": [0, 1, 2, 3]}, protocol=n) for n in (0, 2, 4)]
    configs = [experiment(work / "out"), fp.Experiment(method="cbp", seeds=(3, 1), metrics=("churn",))]
    configs.append(fp.Experiment(member_list=configs[1].members()))
    grids = [
        b'seeds = 2\nepochs = [1, 2]\n[[cross]]\nmethod = ["none", "l2"]\nstrength = [0.1]\n',
        b'seeds = [7, 3]\nwidths = [[8, 4], [4]]\nmethod = "cbp"\ncbp-utility = ["weight"]\nmetrics = ["churn"]\n',
    ]
    crosses = [
        {"seeds": 2, "activation": ["relu"]},
        {"method": ["none", "cbp"], "cbp_utility": ["weight"]},
    ]
    request = {"machine": {"threads": 1}, "crosses": crosses}
    pictures = [_picture(pixels[0, 0], kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")]
    classes = [_npy(pixels[:1]), _npy(np.ones((1, 3, 32, 32), np.float32))]

    def placed(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        path = work / "read" / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def reading(content: bytes) -> object:
            path.write_bytes(content)
            return read(path)

        return reading

    def of_class(path: Path) -> object:
        return load_imagenet32(path.parent)

    configuration = placed("c.json", lambda path: fp.Experiment.from_dict(load_config(path)))
    stored = placed("s/grid.json", lambda path: expand(read_request(path.parent)))
    picture = placed("own/a/1.png", lambda path: load_own(path.parent.parent))
    results_of = placed("e.parquet", lambda path: fp.load(path).metrics())
    return {
        "configuration": Reader([json.dumps(one.to_dict()).encode() for one in configs], configuration, fp.ConfigError),
        "grid": Reader(grids, placed("g.toml", lambda path: expand(read_grid(path))), fp.ConfigError),
        "stored grid of a sweep": Reader([json.dumps(request).encode()], stored, (StoreError, fp.ConfigError)),
        "pickled batch": Reader(batches, read_batch, ValueError),
        "archive of arrays": Reader([_npy(pixels[:, :, :4, :4])], placed("own.npz", load_own), DataError, _npz),
        "picture": Reader(pictures, picture, DataError, _with_checksums),
        "class of ImageNet": Reader(classes, placed("i/0.npy", of_class), DataError),
        "exported results": Reader([_without_digest(exported)], results_of, (StoreError, ValueError), _with_digest),
    }


def attempt(work: Path, name: str, reader: Reader, number: int) -> str | None:
    """Reads one damaged content.

    Args:
        work: where files lie.
        name: of the reader.
        reader: what it is.
        number: decides the damage.

    Returns:
        What was wrong, or None.
    """
    rng = random.Random(f"{name} {number}")
    whole = rng.choice(reader.wholes)
    content = reader.seal(damaged(rng, whole)) if number % 2 else damaged(rng, reader.seal(whole))
    try:
        reader.read(content)
    except reader.error as error:
        is_named = str(work) in str(error) or isinstance(error, fp.ConfigError) or name == "pickled batch"
        if not is_named or len(str(error)) > LONGEST_ERROR:
            return f"try {number}: {str(error)[:300]}"
        return None
    except Exception as error:
        return f"try {number}: {type(error).__name__}: {error}"
    return None


def inputs(work: Path, count: int, first: int = 0) -> list[Row]:
    """Each reader with damaged content: a result or the documented error, within five seconds of a core."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, reader in readers(work).items():
            row = Row(
                f"{name}: damaged content",
                f"a result, or the documented error, within {CORE_SECONDS:g} s of a core and {BYTES >> 30} GiB",
            )
            for whole in reader.wholes:
                reader.read(reader.seal(whole))
            for wrong in tries(partial(attempt, work, name, reader), range(first, first + count)):
                row.count(wrong)
            rows.append(row)
    return rows
