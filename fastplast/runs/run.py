"""A run directory, for reading.

``config.json`` (resolved, itself a valid ``--config``), ``env.json`` (command, commit, versions, hardware, times),
``metrics/part-<task>-<start|end>.parquet`` (one row per member, every hyperparameter as a column),
``metrics/definitions.json`` and, of metrics on request, ``metrics/units.json``, ``epochs/part-<task>.parquet`` on
request, ``spectra/task-<task>-<start|end>.npz``,
``manifest.jsonl`` (rows and digests of these parts), ``checkpoint/``, ``previous_checkpoint/``, ``timings.jsonl``
(what is not reproducible bit for bit), ``progress.json`` (for whoever looks on), ``figures/``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import zipfile
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from fastplast.bounded import check_zip, read_bytes
from fastplast.runs.files import StoreError, check_schema
from fastplast.runs.manifest import FILE, Part, check_part, read_manifest
from fastplast.runs.parquet import read_part
from fastplast.runs.reading import MOST_TEXT, check_keys, digest_of, read_json, reading
from fastplast.runs.results import Results
from fastplast.runs.tables import ORDER, as_format, concatenate, described
from fastplast.runs.weights import module_of, moment
from fastplast.text import closest

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow
    from torch import nn

SPECTRA = ("task", "when", "member", "seed", "method", "dimension", "computed", "is_complete")
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
        return read_json(self.path / "config.json", {})

    @property
    def env(self) -> dict[str, Any]:
        """Command, commit, versions, hardware, times, notes; ``resumes`` holds the same of every later process."""
        return read_json(self.path / "env.json", {"finished": bool, "resumes": list, "notes": dict})

    @property
    def identity(self) -> dict[str, Any]:
        """Digests of the data and the network; empty for a run that was started before there were any."""
        identity = self.env.get("identity", {})
        with reading(self.path / "env.json"):
            return check_keys(identity, {"data": str} if identity else {})

    @property
    def is_finished(self) -> bool:
        """Whether the last task was trained and measured."""
        return self.env["finished"]

    @property
    def definitions(self) -> dict[str, str]:
        """Metric to definition."""
        path = self.path / "metrics" / "definitions.json"
        return read_json(path, {}) if path.exists() else {}

    @property
    def units(self) -> dict[str, str]:
        """Metric to unit, of metrics on request that have one."""
        path = self.path / "metrics" / "units.json"
        return read_json(path, {}) if path.exists() else {}

    @property
    def members(self) -> pandas.DataFrame:
        """One row per member: its number, seed and hyperparameters, as the first part of the metrics has them."""
        first, check = self._parts("metrics")[0]
        table = read_part(first, check)
        with reading(first):
            return table.select(described(table)).sort_by("member").to_pandas()

    def _table(self) -> pyarrow.Table:
        parts = self._parts("metrics")
        with reading(self.path / "metrics"):
            return concatenate([read_part(part, check) for part, check in parts]).sort_by(ORDER)

    @overload
    def spectra(self, task: None = None, when: str = "start") -> pandas.DataFrame: ...

    @overload
    def spectra(self, task: int, when: str = "start") -> list[numpy.ndarray]: ...

    def spectra(self, task: int | None = None, when: str = "start") -> Any:
        """Eigenvalues of the Hessian block: those that were computed, which are all of them only by the exact method.

        Args:
            task: number of the task, from 0; None for what there is.
            when: ``"start"`` or ``"end"``.

        Returns:
            Of a task, one fp32 vector per member, in the order of ``members``; lengths may differ. Without one, a table
            with a row for each vector: ``task``, ``when``, ``member``, ``seed``, ``method``, the ``dimension`` of the
            space that was left to the solver, how many were ``computed``, and whether that ``is_complete``.

        Raises:
            StoreError: if they were not stored, and the text lists what was; or if they are damaged.
        """
        import numpy

        if task is None:
            return self._list_spectra()
        path = self.path / "spectra" / f"task-{probe_name(task, when)}.npz"
        if not path.exists():
            there = ", ".join(p.stem for p in sorted(path.parent.glob("task-*.npz"))) or "none"
            raise StoreError(f"{path} is not there. Spectra of this run: {there}.")
        with reading(path):
            data = read_bytes(path)
            self._check_of(path)(*digest_of(path))
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                check_zip(archive, len(data))
            with numpy.load(io.BytesIO(data), allow_pickle=False) as arrays:
                values, offsets = arrays["eigenvalues"], arrays["offsets"]
            ends = [0, *offsets.tolist(), len(values)]
            if values.dtype.kind != "f" or offsets.dtype.kind != "i" or ends != sorted(ends):
                raise StoreError(f"{path} is damaged: its offsets are not those of its eigenvalues.")
            return numpy.split(values, offsets[1:-1])

    def _list_spectra(self) -> pandas.DataFrame:
        import pandas

        table, rows = self.metrics(), []
        for path in sorted((self.path / "spectra").glob("task-*.npz")):
            _, task, when = path.stem.split("-")
            measured = table[(table["task"] == int(task)) & (table["when"] == when)].to_dict("records")
            for own, values in zip(measured, self.spectra(int(task), when)):
                place = {"task": int(task), "when": when, "member": own["member"], "seed": own["seed"]}
                how = {"method": own["hessian_method"], "dimension": own["hessian_dimension"], "computed": len(values)}
                rows.append(place | how | {"is_complete": own["hessian_method"] == "exact"})
        return pandas.DataFrame(rows, columns=SPECTRA)

    def module(
        self,
        member: int,
        task: int | None = None,
        when: str = "end",
        *,
        epoch: int | None = None,
        network: Callable[[], nn.Module] | None = None,
    ) -> nn.Module:
        """A member as an ordinary module with its weights, to measure of it whatever is wanted.

        Args:
            member: its number.
            task: number of the task, from 0, of a run with ``keep_weights``; the last checkpoint if None.
            when: ``"start"`` or ``"end"`` of the task.
            epoch: number of an epoch of the task, from 0, at whose end; of a run that keeps all weights.
            network: the factory that the run was started with, if it was.

        Returns:
            The module, in evaluation mode; layers are called as in the results: ``fc1``, ``conv1``.

        Raises:
            ConfigError: if the run was made with a module and none is given, or there is no such member.
            StoreError: if the weights were not stored; the text lists what was.
        """
        at = None if task is None else (task, moment(when, epoch))
        return module_of(self.path, self.config, self.env["notes"].get("data", {}), member, at, network)

    def epochs(self, format: str = "pandas") -> Any:
        """Curves within tasks, of a run with ``epoch_curves``: one row per member, task and epoch.

        Args:
            format: as of ``metrics``.

        Returns:
            A table of that library, sorted by task, epoch, member; a task is there once it has ended.

        Raises:
            StoreError: if there are none.
        """
        if not (parts := self._parts("epochs")):
            raise StoreError(no_epochs(self.path))
        with reading(self.path / "epochs"):
            table = concatenate([read_part(part, check) for part, check in parts])
        return as_format(table, format)

    @property
    def has_epochs(self) -> bool:
        """Whether it holds curves within tasks."""
        return any((self.path / "epochs").glob("part-*.parquet"))

    def timings(self) -> pandas.DataFrame:
        """Seconds and rates: one row per task; of a task that was trained again after a kill, the last."""
        import pandas

        path = self.path / "timings.jsonl"
        records: dict[int, dict[str, Any]] = {}
        lines = []
        if path.exists():
            with reading(path):
                lines = read_bytes(path, MOST_TEXT).splitlines()
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):  # what a killed process left of a line
                record = check_keys(json.loads(line), {"task": int})
                records[record["task"]] = record
        return pandas.DataFrame([*records.values()])

    def _repr_html_(self) -> str:
        config = self.config
        state = "finished" if self.is_finished else "not finished"
        rows = {name: str(config[name]) for name in ("benchmark", "network", "activation", "method") if name in config}
        rows = {"run": str(self.path), "state": state} | rows
        if self.is_measured:
            table = self.metrics()
            last = table[table["when"] == "end"]
            rows["members"] = str(table["member"].nunique())
            if len(last):
                error = last[last["task"] == last["task"].max()]["error"].mean()
                rows["error"] = f"{error:.4f} at the end of task {last['task'].max() + 1}, mean over members"
        cells = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
        return f"<table>{''.join(cells)}</table>"

    @property
    def is_measured(self) -> bool:
        """Whether there are metrics already."""
        return any((self.path / "metrics").glob("part-*.parquet"))

    def __repr__(self) -> str:
        tasks = len(list((self.path / "metrics").glob("part-*-end.parquet")))
        members = f"{len(self.members)} members, " if tasks else ""
        state = "finished" if self.is_finished else "not finished"
        return f"Run({str(self.path)!r}, {members}{tasks} tasks, {state})"

    def _parts(self, folder: str) -> list[tuple[Path, Callable[[int, str], None]]]:
        # Parts in a folder, each with what refuses it if it is not what was written; an error if one is missing.
        known = self._manifest()
        there = sorted(path.name for path in (self.path / folder).glob("part-*.parquet"))
        for name in sorted(known):
            place, _, file = name.partition("/")
            if place == folder and file not in there:
                raise StoreError(
                    f"{self.path / name} is missing: {known[name].rows:,} rows that were written. `fastplast resume "
                    f"{shlex.quote(str(self.path))}` makes them again."
                )
        if folder == "metrics" and not there:
            raise StoreError(f"{self.path} holds no metrics yet: its first task has not been measured.")
        return [
            (self.path / folder / file, partial(check_part, self.path, name, part=known.get(name)))
            for file in there
            for name in [f"{folder}/{file}"]
        ]

    def _check_of(self, path: Path) -> Callable[[int, str], None]:
        name = path.relative_to(self.path).as_posix()
        return partial(check_part, self.path, name, part=self._manifest().get(name))

    def _manifest(self) -> dict[str, Part]:
        # What the run must hold; of a finished run no less than what it held when it was finished.
        kept = self.env.get("manifest")
        if kept is not None and kept != self.manifest_digest():
            raise StoreError(
                f"{self.path / FILE} is missing or damaged. Restore it from a copy of the run, or `fastplast resume "
                f"{shlex.quote(str(self.path))}` makes it again."
            )
        return read_manifest(self.path)

    def manifest_digest(self) -> str:
        """SHA-256 of the manifest; empty if there is none."""
        with contextlib.suppress(OSError):
            return digest_of(self.path / FILE)[1]
        return ""


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
