"""A run directory, for reading.

``config.json`` (resolved, itself a valid ``--config``), ``env.json`` (command, commit, versions, hardware, times),
``metrics/part-<task>-<start|end>.parquet`` (one row per member, every hyperparameter as a column),
``metrics/definitions.json`` and, of metrics on request, ``metrics/units.json``, ``epochs/part-<task>.parquet`` on
request, ``spectra/task-<task>-<start|end>.npz``,
``checkpoint/``, ``timings.jsonl`` (what is not reproducible bit for bit), ``progress.json`` (for whoever looks on),
``figures/``.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.runs.files import StoreError, check_schema, read_json
from fastplast.runs.results import Results
from fastplast.runs.tables import ORDER, as_format, concatenate, described, read_part
from fastplast.text import closest

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow

WHENS = ("start", "end")


class Run(Results):
    """A run on disk, finished or still training; every property and method reads its files anew.

    Attributes:
        path: the run directory.

    Raises:
        FileNotFoundError: if the path is no run directory.
        ValueError: if it was written in another schema.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).expanduser()
        if not (self.path / "config.json").is_file() or not (self.path / "env.json").is_file():
            inside = ", ".join(str(config.parent) for config in sorted(self.path.glob("*/config.json"))[:5])
            raise FileNotFoundError(
                f"path must be a run directory, with config.json and env.json: got {path}"
                + ("" if self.path.exists() else ", which does not exist")
                + (f". Runs in it: {inside}." if inside else ".")
            )
        check_schema(self.env, self.path / "env.json")

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return read_json(self.path / "config.json")

    @property
    def env(self) -> dict[str, Any]:
        """Command, commit, versions, hardware, times, notes; ``resumes`` holds the same of every later process."""
        return read_json(self.path / "env.json")

    @property
    def identity(self) -> dict[str, Any]:
        """Digests of the data and the network; empty for a run that was started before there were any."""
        return self.env.get("identity", {})

    @property
    def is_finished(self) -> bool:
        """Whether the last task was trained and measured."""
        return self.env["finished"]

    @property
    def definitions(self) -> dict[str, str]:
        """Metric to definition."""
        path = self.path / "metrics" / "definitions.json"
        return read_json(path) if path.exists() else {}

    @property
    def units(self) -> dict[str, str]:
        """Metric to unit, of metrics on request that have one."""
        path = self.path / "metrics" / "units.json"
        return read_json(path) if path.exists() else {}

    @property
    def members(self) -> pandas.DataFrame:
        """One row per member: its number, seed and hyperparameters, as the first part of the metrics has them."""
        table = read_part(self._parts()[0])
        return table.select(described(table)).sort_by("member").to_pandas()

    def _table(self) -> pyarrow.Table:
        return concatenate([read_part(part) for part in self._parts()]).sort_by(ORDER)

    def spectra(self, task: int, when: str = "start") -> list[numpy.ndarray]:
        """Eigenvalues of the Hessian block.

        Args:
            task: number of the task, from 0.
            when: ``"start"`` or ``"end"``.

        Returns:
            One fp32 vector per member, in the order of ``members``; lengths may differ.

        Raises:
            StoreError: if they were not stored; the text lists what was.
        """
        import numpy

        path = self.path / "spectra" / f"task-{probe_name(task, when)}.npz"
        if not path.exists():
            there = ", ".join(p.stem for p in sorted(path.parent.glob("task-*.npz"))) or "none"
            raise StoreError(f"{path} is not there. Spectra of this run: {there}.")
        with numpy.load(path, allow_pickle=False) as arrays:
            return numpy.split(arrays["eigenvalues"], arrays["offsets"][1:-1])

    def epochs(self, format: str = "pandas") -> Any:
        """Curves within tasks, of a run with ``epoch_curves``: one row per member, task and epoch.

        Args:
            format: as of ``metrics``.

        Returns:
            A table of that library, sorted by task, epoch, member; a task is there once it has ended.

        Raises:
            StoreError: if there are none.
        """
        if not (parts := self._epoch_parts()):
            raise StoreError(no_epochs(self.path))
        return as_format(concatenate([read_part(part) for part in parts]), format)

    @property
    def has_epochs(self) -> bool:
        """Whether it holds curves within tasks."""
        return bool(self._epoch_parts())

    def timings(self) -> pandas.DataFrame:
        """Seconds and rates: one row per task; of a task that was trained again after a kill, the last."""
        import pandas

        path = self.path / "timings.jsonl"
        records = {}
        for line in path.read_bytes().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):  # what a killed process left of a line
                record = json.loads(line)
                records[record["task"]] = record
        return pandas.DataFrame([*records.values()])

    def __repr__(self) -> str:
        tasks = len(list((self.path / "metrics").glob("part-*-end.parquet")))
        members = f"{len(self.members)} members, " if tasks else ""
        state = "finished" if self.is_finished else "not finished"
        return f"Run({str(self.path)!r}, {members}{tasks} tasks, {state})"

    def _epoch_parts(self) -> list[Path]:
        return sorted((self.path / "epochs").glob("part-*.parquet"))

    def _parts(self) -> list[Path]:
        if parts := sorted((self.path / "metrics").glob("part-*.parquet")):
            return parts
        raise StoreError(f"{self.path} holds no metrics yet: its first task has not been measured.")


def no_epochs(path: Path) -> str:
    """What to say of a run or a sweep whose curves within tasks are asked for and were not stored."""
    return f"{path} holds no curves of epochs. They are stored with --epoch-curves."


def probe_name(task: int, when: str) -> str:
    """How files name a probe time.

    Args:
        task: number of the task, from 0.
        when: ``"start"`` or ``"end"``.

    Returns:
        For example ``00003-start``.

    Raises:
        ValueError: if `when` is neither.
    """
    if when not in WHENS:
        raise ValueError(f"when must be a known name: got {when!r}. {closest(when, WHENS)}")
    return f"{task:05d}-{when}"
