"""Files of any content: of a run, and everything else that is read.

Each function tries `count` contents more in an empty folder `work`, after `first` others.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from trained import Row, damaged, experiment, go_on, results

import fastplast as fp
from fastplast.config import load_config
from fastplast.data import DataError, load_own
from fastplast.data.batches import read_batch
from fastplast.data.imagenet import load_imagenet32
from fastplast.runs.archive import write_archive
from fastplast.runs.files import StoreError
from fastplast.runs.run import Run
from fastplast.runs.status import status
from fastplast.sweeps import expand, read_grid, read_request

MOST_SECONDS = 5.0
DOCUMENTED = (StoreError, DataError, fp.ConfigError, FileNotFoundError, ValueError)


def files_of_a_run(work: Path, count: int, first: int = 0) -> Row:
    """Every kind of file of a finished run is damaged; readers and ``resume`` give the same or say what is wrong."""
    row = Row(
        "a file of a finished run cut, flipped, overwritten or of a newer version, each kind",
        "the same results, or an error that names a file; resumed to the same bytes, or refused",
    )
    go_on(work / "whole")
    want, rng = results(work / "whole"), random.Random(first)
    table = fp.load(work / "whole").metrics()
    kinds = sorted(path.relative_to(work / "whole") for path in (work / "whole").rglob("*") if path.is_file())
    kinds = [kind for kind in kinds if kind.name != ".lock"]
    for number in range(first, first + count):
        path, kind = work / "run", kinds[number % len(kinds)]
        shutil.copytree(work / "whole", path)
        (path / kind).write_bytes(damaged(rng, (path / kind).read_bytes()))
        wrong = None
        try:
            run = Run(path)
            status(path)
            run.spectra(0)
            run.epochs()
            if not run.metrics().equals(table):
                wrong = f"{kind}: another table"
        except (StoreError, ValueError, FileNotFoundError) as error:
            wrong = None if str(path) in str(error) else f"{kind}: {error}"
        except Exception as error:
            wrong = f"{kind}: {type(error).__name__}: {error}"
        try:
            go_on(path)
            if results(path) != want:
                wrong = f"{kind}: other bytes after resuming"
        except (StoreError, ValueError, FileExistsError, FileNotFoundError):
            pass
        except Exception as error:
            wrong = f"{kind}: resume: {type(error).__name__}: {error}"
        row.count(wrong)
        shutil.rmtree(path)
    return row


def _npz(images: np.ndarray, labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, labels=labels)
    return buffer.getvalue()


def readers(work: Path) -> dict[str, tuple[bytes, Callable[[bytes], object]]]:
    """What is read, by name: a whole content, and what reads another in its place."""
    pixels = np.arange(4 * 3 * 32 * 32, dtype=np.uint8).reshape(4, 3, 32, 32)
    picture, array = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels[0, 0]).save(picture, "PNG")
    np.save(array, pixels)
    go_on(work / "run")
    archive = write_archive(fp.load(work / "run"), work / "a.parquet").read_bytes()
    batch = pickle.dumps({"data": pixels.reshape(4, -1), "labels": [0, 1, 2, 3]}, protocol=2)
    config = json.dumps(experiment(work / "out").to_dict()).encode()
    grid = b'seeds = 2\nepochs = [1, 2]\n[[cross]]\nmethod = ["none", "l2"]\nstrength = [0.1]\n'
    request = json.dumps({"machine": {"threads": 1}, "crosses": [{"seeds": 2, "activation": ["relu"]}]}).encode()

    def placed(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        path = work / "read" / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def reading(content: bytes) -> object:
            path.write_bytes(content)
            return read(path)

        return reading

    return {
        "configuration": (config, placed("c.json", lambda path: fp.Experiment.from_dict(load_config(path)))),
        "grid": (grid, placed("g.toml", lambda path: expand(read_grid(path)))),
        "stored grid of a sweep": (request, placed("s/grid.json", lambda path: expand(read_request(path.parent)))),
        "pickled batch": (batch, read_batch),
        "archive of arrays": (_npz(images=pixels, labels=np.arange(4)), placed("own.npz", load_own)),
        "picture": (picture.getvalue(), placed("own/a/1.png", lambda path: load_own(path.parent.parent))),
        "class of ImageNet": (array.getvalue(), placed("i/0.npy", lambda path: load_imagenet32(path.parent))),
        "exported results": (archive, placed("e.parquet", lambda path: fp.load(path).metrics())),
    }


def inputs(work: Path, count: int, first: int = 0) -> list[Row]:
    """Each reader with damaged content: a result or the documented error, within five seconds of a core."""
    rows, rng = [], random.Random(first)
    for name, (whole, read) in readers(work).items():
        row = Row(f"{name}: damaged content", "a result, or the documented error, within 5 s of a core")
        read(whole)
        for _ in range(count):
            begun, wrong = time.process_time(), None
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read(damaged(rng, whole))
            except DOCUMENTED:
                pass
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            if time.process_time() - begun > MOST_SECONDS:
                wrong = f"it took {time.process_time() - begun:.1f} s"
            row.count(wrong)
        rows.append(row)
    return rows
