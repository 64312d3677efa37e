"""One file of results: the table of a run or a sweep with all that a figure says of it, small enough to commit or send.

A Parquet file, which any reader of tables opens; where and how it was trained and what each metric is lie in its
metadata. Checkpoints and spectra stay behind.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.runs.files import StoreError, check_schema
from fastplast.runs.reading import check_keys, reading
from fastplast.runs.results import Results
from fastplast.runs.tables import members_of, read_noted, write_noted

if TYPE_CHECKING:
    import pandas
    import pyarrow

SUFFIX = ".parquet"


class Archive(Results):
    """Results in one file, for reading; the same table as that of the directory it was exported from.

    Attributes:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it was not written by ``fastplast export``, or in another schema.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise FileNotFoundError(f"path must be a file of exported results: got {path}, which is none.")
        _, note = read_noted(self.path, rows=False)
        if not note:
            raise StoreError(
                f"path must be a file that `fastplast export RUN --out FILE{SUFFIX}` wrote: got {path}, a Parquet file "
                "without its metadata."
            )
        with reading(self.path, "Export it again."):
            check_keys(note, {"env": dict, "finished": bool, "definitions": dict, "timings": list})
        check_schema(note["env"], self.path)
        self._note = note

    @property
    def env(self) -> dict[str, Any]:
        """Commit, versions, hardware and times of what was exported."""
        return self._note["env"]

    @property
    def definitions(self) -> dict[str, str]:
        """Metric to definition."""
        return self._note["definitions"]

    @property
    def units(self) -> dict[str, str]:
        """Metric to unit, of metrics on request that have one."""
        return self._note.get("units", {})

    @property
    def is_finished(self) -> bool:
        """Whether all that was exported was finished."""
        return self._note["finished"]

    @property
    def members(self) -> pandas.DataFrame:
        """One row per member: its number, seed and hyperparameters."""
        with reading(self.path, "Export it again."):
            return members_of(self._table())

    def _table(self) -> pyarrow.Table:
        return read_noted(self.path)[0]

    def timings(self) -> pandas.DataFrame:
        """Seconds of training and measuring, a row for each task of each batch."""
        import pandas

        with reading(self.path, "Export it again."):
            return pandas.DataFrame(self._note["timings"])

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r}, {len(self.members)} members)"


def write_archive(results: Results, path: str | os.PathLike) -> Path:
    """Writes everything measured as one file, replacing what was there; the same results make the same bytes.

    Args:
        results: a run, a sweep, or such a file.
        path: the file; its name ends in ``.parquet``.

    Returns:
        Its path.

    Raises:
        ValueError: if the name ends otherwise.
        StoreError: if nothing has been measured yet.
    """
    path = Path(path).expanduser()
    if path.suffix != SUFFIX:
        raise ValueError(f"path must end in {SUFFIX}: got {path}.")
    table = results.metrics("arrow")
    timings = results.timings().filter(items=["shard", "task", "train_seconds", "measure_seconds"])
    note = {
        "env": _told(results.env),
        "finished": results.is_finished,
        "definitions": results.definitions,
        "timings": timings.to_dict("records"),
    }
    if results.units:
        note["units"] = results.units
    write_noted(table, path, note)
    return path


def _told(env: dict[str, Any]) -> dict[str, Any]:
    """What is true elsewhere too: without the name of the host and the places of files on it."""
    told = {
        name: env[name] for name in ("schema_version", "started", "ended", "fastplast", "commit", "dirty", "versions")
    }
    return told | {"hardware": {name: value for name, value in env["hardware"].items() if name != "host"}}
