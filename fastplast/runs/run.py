"""The run directory: the only writer and reader of run files.

``config.json`` (resolved, itself a valid ``--config``), ``env.json`` (command, commit, versions, hardware, times),
``metrics/part-<task>-<start|end>.parquet`` (one row per member, every hyperparameter as a column),
``metrics/definitions.json``, ``epochs/part-<task>.parquet`` on request, ``spectra/task-<task>-<start|end>.npz``,
``checkpoint/``, ``timings.jsonl`` (what is not reproducible bit for bit), ``progress.json`` (for whoever looks on),
``figures/``. The same values make the same
bytes: a resumed run rewrites its files as they were.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.machine.environment import environment, now
from fastplast.runs import checkpoint
from fastplast.runs.checkpoint import SCHEMA_VERSION, StoreError, append_line, json_bytes, read_json, write_file
from fastplast.runs.tables import (
    ORDER,
    as_format,
    check_format,
    joined,
    measured,
    on_host,
    read_part,
    table_of,
    write_csv,
    write_part,
)
from fastplast.text import closest

if TYPE_CHECKING:
    import numpy
    import pandas
    from torch import Tensor

WHENS = ("start", "end")


class Run:
    """A run on disk, finished or still training; every property and method reads its files anew.

    Attributes:
        path: the run directory.

    Raises:
        FileNotFoundError: if the path is no run directory.
        ValueError: if it was written in another schema.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not (self.path / "config.json").is_file() or not (self.path / "env.json").is_file():
            inside = ", ".join(str(config.parent) for config in sorted(self.path.glob("*/config.json"))[:5])
            raise FileNotFoundError(
                f"path must be a run directory, with config.json and env.json: got {path}"
                + ("" if self.path.exists() else ", which does not exist")
                + (f". Runs in it: {inside}." if inside else ".")
            )
        checkpoint.check_schema(self.env, self.path / "env.json")

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return read_json(self.path / "config.json")

    @property
    def env(self) -> dict[str, Any]:
        """Command, commit, versions, hardware, times, notes; ``resumes`` holds the same of every later process."""
        return read_json(self.path / "env.json")

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
    def members(self) -> pandas.DataFrame:
        """One row per member: its number, seed and hyperparameters, as the first part of the metrics has them."""
        table = read_part(self._parts()[0])
        return table.select(table.column_names[: table.column_names.index("task")]).sort_by("member").to_pandas()

    def metrics(self, format: str = "pandas") -> Any:
        """Everything measured so far: one row per member, task and probe time, sorted by task, start and end, member.

        Args:
            format: ``"pandas"``, ``"polars"`` or ``"arrow"``.

        Returns:
            A table of that library. Columns before ``task`` describe the member. What was not measured is null.

        Raises:
            ValueError: if the format is unknown.
            ImportError: if polars is asked for and not installed.
        """
        check_format(format)
        return as_format(joined([read_part(part) for part in self._parts()]).sort_by(ORDER), format)

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

        path = self.path / "spectra" / f"task-{_place(task, when)}.npz"
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
        return as_format(joined([read_part(part) for part in parts]), format)

    @property
    def has_epochs(self) -> bool:
        """Whether it holds curves within tasks."""
        return bool(self._epoch_parts())

    def timings(self) -> pandas.DataFrame:
        """Seconds and rates: one row per record, in the order of writing; after a resume a task may occur again."""
        import pandas

        path = self.path / "timings.jsonl"
        records = []
        for line in path.read_bytes().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):  # what a killed process left of a line
                records.append(json.loads(line))
        return pandas.DataFrame(records)

    def export_csv(self, path: str | os.PathLike) -> Path:
        """Writes all metrics as one CSV file, replacing what was there.

        Args:
            path: the file.

        Returns:
            Its path. Null is empty, NaN is ``nan``; numbers read back as the same bits.
        """
        return write_csv(self.metrics("arrow"), path)

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


class RunWriter:
    """The one process that writes a run, made by ``create`` or ``open``, which take the lock of the directory.

    ``finish``, ``close``, leaving a ``with`` block, or the death of the process releases it. Every file is written
    whole or not at all; a write that fails is a ``StoreError``.

    Attributes:
        run: the reader of the same directory.

    Example:
        >>> with RunWriter.create("runs/mine", {"benchmark": "mnist_shuffle"}) as writer:  # doctest: +SKIP
        ...     writer.write_metrics(0, "end", {"member": [0, 1], "seed": [5, 6], "updates": [80, 80], "error": [0, 1]})
        ...     writer.finish()
    """

    def __init__(self, run: Run, lock: int) -> None:
        self.run = run
        self._release = weakref.finalize(self, os.close, lock)

    @classmethod
    def create(
        cls, path: str | os.PathLike, config: Mapping[str, Any], command: str | Sequence[str] | None = None
    ) -> RunWriter:
        """Starts a run in a new or empty directory; ``FileExistsError`` if it holds anything.

        Args:
            path: the directory.
            config: the resolved configuration: JSON values.
            command: what was typed; ``sys.argv`` if None.

        Returns:
            The writer.
        """
        path, content = Path(path), json_bytes(dict(config))
        lock = checkpoint.claim_directory(path)
        try:
            start = {"schema_version": SCHEMA_VERSION, "finished": False, **environment(command)}
            write_file(path / "env.json", json_bytes(start | {"notes": {}, "resumes": []}))
            write_file(path / "config.json", content)  # last: it is what makes the directory a run
        except BaseException:
            (path / "env.json").unlink(missing_ok=True)
            os.close(lock)
            raise
        return cls(Run(path), lock)

    @classmethod
    def open(cls, path: str | os.PathLike, command: str | Sequence[str] | None = None) -> RunWriter:
        """Opens a run to continue it; errors as of ``Run`` and, if another process writes it, ``StoreError``.

        Args:
            path: the run directory.
            command: what was typed; ``sys.argv`` if None.

        Returns:
            The writer.
        """
        run = Run(path)
        writer = cls(run, checkpoint.take_lock(run.path))
        try:
            env = run.env
            env["resumes"].append(environment(command))
            write_file(run.path / "env.json", json_bytes(env))
            for folder in (
                "",
                "metrics",
                "spectra",
                "epochs",
            ):  # what a kill left behind; figures may have another writer
                for left in (run.path / folder).glob(".*.tmp"):
                    left.unlink()
        except BaseException:
            writer.close()
            raise
        return writer

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the run was started with."""
        return self.run.config

    def check_resumable(
        self, config: Mapping[str, Any], ignore: Collection[str] = (), defaults: Mapping[str, Any] | None = None
    ) -> None:
        """Refuses to continue the run with another configuration.

        Args:
            config: the resolved configuration.
            ignore: fields that may differ, because they cannot move a curve.
            defaults: what fields are that one of the two configurations does not name.

        Raises:
            ValueError: naming the fields that differ, each as ``name: stored -> given``.
        """
        stored, given = (
            _flat(json.loads(json_bytes({**(defaults or {}), **values}))) for values in (self.config, config)
        )
        pairs = {name: (stored.get(name, "(absent)"), given.get(name, "(absent)")) for name in stored | given}
        changes = [f"{n}: {a} -> {b}" for n, (a, b) in pairs.items() if a != b and n.split(".")[0] not in ignore]
        if changes:
            raise ValueError(
                f"config must be the one that {self.run.path} was started with: got {'; '.join(changes)}. Resume "
                "without these changes, or start another run with another `--out`."
            )

    def write_note(self, name: str, value: Any) -> None:
        """Puts a fact about this machine or this data into ``env.json``, under ``notes``.

        Args:
            name: of the note.
            value: JSON.
        """
        env = self.run.env
        env["notes"][name] = value
        write_file(self.run.path / "env.json", json_bytes(env))

    def write_definitions(self, definitions: Mapping[str, str]) -> None:
        """Writes what the metrics mean, beside the numbers.

        Args:
            definitions: metric to its one definition.
        """
        write_file(self.run.path / "metrics" / "definitions.json", json_bytes(dict(definitions)))

    def write_metrics(self, task: int, when: str, columns: Mapping[str, Any]) -> None:
        """Writes one row per member; the same values make the same bytes, and replace what was there.

        Args:
            task: number of the task, from 0.
            when: ``"start"`` or ``"end"``.
            columns: name to `[M]` values, None where there is none; first ``member``, ``seed`` and the
                hyperparameters, then ``updates`` and what was measured. ``task`` and ``when`` are put between the two.
        """
        path = self.run.path / "metrics" / f"part-{_place(task, when)}.parquet"
        write_part(measured(task, when, columns), path)

    def write_epochs(self, task: int, columns: Mapping[str, Any]) -> None:
        """Writes the curves of a task, replacing what was there.

        Args:
            task: number of the task, from 0.
            columns: name to values, one per epoch and member.
        """
        write_part(table_of(columns), self.run.path / "epochs" / f"part-{task:05d}.parquet")

    def write_spectra(self, task: int, when: str, eigenvalues: Sequence[Tensor]) -> None:
        """Writes the eigenvalues of every member as fp32: ``eigenvalues``, concatenated, and ``offsets`` `[M + 1]`.

        Args:
            task: number of the task, from 0.
            when: ``"start"`` or ``"end"``.
            eigenvalues: one vector per member; lengths may differ.
        """
        import numpy

        with numpy.errstate(over="ignore"):  # a member about to diverge: infinite in fp32
            rows = [numpy.asarray(on_host(row), dtype=numpy.float32).reshape(-1) for row in eigenvalues]
        offsets = numpy.cumsum([0, *map(len, rows)], dtype=numpy.int64)
        buffer = io.BytesIO()
        numpy.savez(buffer, eigenvalues=numpy.concatenate([*rows, numpy.empty(0, numpy.float32)]), offsets=offsets)
        write_file(self.run.path / "spectra" / f"task-{_place(task, when)}.npz", buffer.getvalue())

    def append_timing(self, record: Mapping[str, Any]) -> None:
        """Adds a line to ``timings.jsonl``: whatever is not reproducible bit for bit.

        Args:
            record: JSON values; the unit in the name, as in ``train_seconds``.
        """
        append_line(self.run.path / "timings.jsonl", json.dumps(dict(record)).encode())

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Says how far training is, for ``fastplast status``; nothing is read back, and failing to write is no error.

        Args:
            progress: JSON values.
        """
        with contextlib.suppress(OSError):
            write_file(self.run.path / "progress.json", json_bytes({**progress, "time": now()}))

    def save_checkpoint(self, tensors: Mapping[str, Tensor], position: Mapping[str, Any]) -> None:
        """Replaces the checkpoint; a kill at any moment leaves the previous or the new one whole.

        Args:
            tensors: name to tensor, of any shape, on any device.
            position: where the run stands: JSON values.
        """
        digest = checkpoint.config_digest(self.config)
        checkpoint.save_checkpoint(self.run.path / "checkpoint", tensors, position, digest)

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Reads the checkpoint; a ``StoreError`` if it is damaged or of another configuration.

        Returns:
            Tensors on the CPU and the position; None if there is no checkpoint.
        """
        return checkpoint.load_checkpoint(self.run.path / "checkpoint", checkpoint.config_digest(self.config))

    def finish(self) -> None:
        """Marks the run as finished, and closes it."""
        env = self.run.env
        env["finished"] = True
        (env["resumes"] or [env])[-1]["ended"] = now()
        write_file(self.run.path / "env.json", json_bytes(env))
        self.close()

    def close(self) -> None:
        """Releases the lock."""
        self._release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(task: int, when: str) -> str:
    if when not in WHENS:
        raise ValueError(f"when must be a known name: got {when!r}. {closest(when, WHENS)}")
    return f"{task:05d}-{when}"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {prefix + name: inner}
    return flat
