"""Opens results for reading: a run, a sweep, or a file that was exported from one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastplast.runs.archive import SUFFIX, Archive
from fastplast.runs.paths import is_sweep
from fastplast.runs.run import Run
from fastplast.stores import is_url, pull_to_cache
from fastplast.sweeps import Sweep

AnyResults = Run | Sweep | Archive


def open_results(*paths: str | os.PathLike) -> AnyResults:
    """Opens a run, sweeps, or a file of exported results, for reading.

    Args:
        paths: one run directory, sweep directories, or one file that ``fastplast export`` wrote. A directory may be
            the address of one in a store, such as ``s3://bucket/prefix``: what is new there is fetched into the user's
            cache.

    Returns:
        A run or the contents of the file if the path is one, else the sweep of all paths.

    Raises:
        ValueError: if there are several paths and a file among them.
    """
    paths = tuple(pull_to_cache(path) if is_url(path) else path for path in paths)
    if any(Path(path).suffix == SUFFIX for path in paths):
        if len(paths) > 1:
            raise ValueError(f"a file of results is opened alone: got {', '.join(map(str, paths))}.")
        return Archive(*paths)
    return Sweep(*paths) if all(is_sweep(path) for path in paths) else Run(*paths)


def open_each(paths: Sequence[str | os.PathLike]) -> list[AnyResults]:
    """Opens what is named: several sweep directories are one sweep, anything else is opened by itself.

    Args:
        paths: run directories, sweep directories, files of exported results.

    Returns:
        Readers.
    """
    paths = [pull_to_cache(path) if is_url(path) else path for path in paths]
    together = all(is_sweep(path) for path in paths)
    return [open_results(*paths)] if together else [open_results(path) for path in paths]
