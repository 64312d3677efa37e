"""The only writer of run files. The same values make the same bytes: a resumed run rewrites its files as they were."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.bounded import read_bytes
from fastplast.machine.environment import environment, now
from fastplast.runs.checkpoint import load_checkpoint, remove_previous, save_checkpoint
from fastplast.runs.files import (
    SCHEMA_VERSION,
    StoreError,
    append_line,
    check_lock,
    config_digest,
    flush,
    is_leftover,
    json_bytes,
    make_locked_directory,
    release_lock,
    take_lock,
    write_file,
)
from fastplast.runs.heartbeat import beating
from fastplast.runs.manifest import (
    FILE,
    FOLDERS,
    Part,
    add_part,
    find_damage,
    manifest_text,
    parts_there,
    read_manifest,
    task_of,
)
from fastplast.runs.parquet import read_part, write_part
from fastplast.runs.run import WHENS, Run, probe_name
from fastplast.runs.tables import make_probe_table, make_table, on_host
from fastplast.runs.weights import weights_path

if TYPE_CHECKING:
    from torch import Tensor


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
        self.run, self._lock = run, lock
        self._release = weakref.finalize(self, release_lock, lock)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        config: Mapping[str, Any],
        command: str | Sequence[str] | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> RunWriter:
        """Starts a run in a new or empty directory; ``FileExistsError`` if it holds anything.

        Args:
            path: the directory.
            config: the resolved configuration: JSON values.
            command: what was typed; ``sys.argv`` if None.
            identity: digests of data and network: JSON values.

        Returns:
            The writer.
        """
        path, content = Path(path), json_bytes(dict(config))
        lock = make_locked_directory(path)
        try:
            start = {"schema_version": SCHEMA_VERSION, "finished": False, **environment(command)}
            if identity is not None:
                start["identity"] = dict(identity)
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
        writer = cls(run, take_lock(run.path))
        try:
            env = run.env
            env["resumes"].append(environment(command))
            write_file(run.path / "env.json", json_bytes(env))
            for folder in ("", *FOLDERS, "weights"):  # what a kill left; figures may have another writer
                if not (run.path / folder).is_symlink():
                    for left in (run.path / folder).glob(".*.tmp"):
                        if is_leftover(left.name):
                            left.unlink()
        except BaseException:
            writer.close()
            raise
        return writer

    def _file(self, *names: str) -> Path:
        """Where a file of the run goes; a ``StoreError`` if the directory is no longer the one that was locked."""
        if self._release.alive:
            check_lock(self._lock, self.run.path)
        return self.run.path.joinpath(*names)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the run was started with."""
        return self.run.config

    def check_resumable(self, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        """Refuses to continue the run with another configuration.

        Args:
            config: the resolved configuration.
            defaults: what fields are that one of the two configurations does not name.

        Raises:
            ValueError: naming the fields that differ, each as ``name: stored -> given``.
        """
        stored, given = (
            _flat(json.loads(json_bytes({**(defaults or {}), **values}))) for values in (self.config, config)
        )
        pairs = {name: (stored.get(name, "(absent)"), given.get(name, "(absent)")) for name in stored | given}
        changes = [f"{name}: {a} -> {b}" for name, (a, b) in pairs.items() if a != b]
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
        write_file(self._file("env.json"), json_bytes(env))

    def write_definitions(self, definitions: Mapping[str, str], units: Mapping[str, str] | None = None) -> None:
        """Writes what the metrics mean, beside the numbers.

        Args:
            definitions: metric to its one definition.
            units: metric to its unit, of those whose unit the package does not know.
        """
        if units:
            write_file(self._file("metrics", "units.json"), json_bytes(dict(units)))
        write_file(self._file("metrics", "definitions.json"), json_bytes(dict(definitions)))

    def write_metrics(self, task: int, when: str, columns: Mapping[str, Any]) -> None:
        """Writes one row per member; the same values make the same bytes, and replace what was there.

        Args:
            task: number of the task, from 0.
            when: ``"start"`` or ``"end"``.
            columns: name to `[M]` values, None where there is none; first ``member``, ``seed`` and the
                hyperparameters, then ``updates`` and what was measured. ``task`` and ``when`` are put between the two.
        """
        name = f"part-{probe_name(task, when)}.parquet"
        table = make_probe_table(task, when, columns)
        self._note_part(f"metrics/{name}", len(table), write_part(table, self._file("metrics", name)))

    def write_epochs(
        self, task: int, described: Mapping[str, Any], epochs: Sequence[int], values: Mapping[str, Any]
    ) -> None:
        """Writes the curves of a task, replacing what was there; a row for each epoch and member.

        Args:
            task: number of the task, from 0.
            described: name to what describes the member of each row.
            epochs: of each row.
            values: name to what was measured in each row.
        """
        table = make_table(described, {"task": [task] * len(epochs), "epoch": epochs}, values)
        name = f"part-{task:05d}.parquet"
        self._note_part(f"epochs/{name}", len(table), write_part(table, self._file("epochs", name)))

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
        name = f"task-{probe_name(task, when)}.npz"
        write_file(self._file("spectra", name), buffer.getvalue())
        self._note_part(f"spectra/{name}", len(rows), buffer.getvalue())

    def _note_part(self, name: str, rows: int, data: bytes) -> None:
        part = Part(rows, len(data), hashlib.sha256(data).hexdigest())
        add_part(self._file(), name, part)

    def find_damage(self, position: Mapping[str, int]) -> str | None:
        """Compares what the run holds with what it must hold up to a position.

        Args:
            position: ``task`` and ``epoch`` of a checkpoint.

        Returns:
            What is wrong with the first part that is missing or damaged; None if all are whole.
        """
        tasks, epoch = position["task"], position["epoch"]
        if self.run.env.get("manifest") not in (None, self.run.manifest_digest()):
            return f"{self.run.path / FILE} is missing or damaged."
        needed = {f"metrics/part-{probe_name(task, when)}.parquet" for task in range(tasks) for when in WHENS}
        begun = tasks if epoch else -1  # the task whose start has been measured
        if epoch:
            needed.add(f"metrics/part-{probe_name(tasks, 'start')}.parquet")

        def is_before(name: str) -> bool:
            return task_of(name) < tasks or (task_of(name) == begun and "-start." in name)

        try:
            self._note_parts_without_line(is_before)
        except StoreError as error:
            return str(error)
        known = read_manifest(self.run.path)
        return find_damage(self.run.path, {name: part for name, part in known.items() if is_before(name)}, needed)

    def _note_parts_without_line(self, is_before: Callable[[str], bool]) -> None:
        """Gives the manifest what a fault took from it, or an earlier version, which had none, did not write."""
        for name in sorted(parts_there(self.run.path) - read_manifest(self.run.path).keys()):
            if is_before(name):
                path = self.run.path / name
                is_table = path.suffix == ".parquet"
                when = path.stem.rpartition("-")[2]
                rows = read_part(path) if is_table else self.run.spectra(task_of(name), when)
                self._note_part(name, len(rows), read_bytes(path))

    def begin_again(self) -> None:
        """Says that the run is not finished: it is trained from its first task again."""
        env = self.run.env
        env["finished"] = False
        env.pop("manifest", None)
        write_file(self._file("env.json"), json_bytes(env))
        self._file(FILE).unlink(missing_ok=True)

    def write_weights(self, task: int, when: str, tensors: Mapping[str, Tensor]) -> None:
        """Writes the weights of all members, replacing what was there.

        Args:
            task: number of the task, from 0.
            when: ``"start"``, ``"end"``, or ``"epoch-<number>"``.
            tensors: name of the parameter to `[M, ...]`.
        """
        from fastplast.runs.safetensors_writer import pieces

        write_file(weights_path(self._file(), task, when), pieces(tensors))

    def append_timing(self, record: Mapping[str, Any]) -> None:
        """Adds a line to ``timings.jsonl``: whatever is not reproducible bit for bit.

        Args:
            record: JSON values; the unit in the name, as in ``train_seconds``.
        """
        append_line(self._file("timings.jsonl"), json.dumps(dict(record)).encode())

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Says how far training is, for ``fastplast status``; nothing is read back, and failing to write is no error.

        Args:
            progress: JSON values.
        """
        with contextlib.suppress(OSError):
            write_file(self._file("progress.json"), json_bytes({**progress, "time": now()}))

    def save_checkpoint(self, tensors: Mapping[str, Tensor], position: Mapping[str, Any]) -> None:
        """Replaces the checkpoint; a kill at any moment leaves the previous or the new one whole.

        Args:
            tensors: name to tensor, of any shape, on any device.
            position: where the run stands: JSON values.
        """
        flush(self._file(FILE))  # what the position says is there outlasts a power cut
        save_checkpoint(self._file("checkpoint"), tensors, position, config_digest(self.config))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Reads the checkpoint; a ``StoreError`` if it is damaged or of another configuration.

        Returns:
            Tensors on the CPU and the position; None if there is no checkpoint.
        """
        config = self.config
        shorter = [config_digest(config | {"tasks": tasks}) for tasks in range(1, config.get("tasks") or 1)]
        return load_checkpoint(self.run.path / "checkpoint", config_digest(config), *shorter)

    def raise_tasks(self, tasks: int) -> None:
        """Makes the run one of more tasks, of which those that it has are the first; a kill leaves one or the other.

        Args:
            tasks: how many, more than there are.
        """
        env = self.run.env
        env["finished"] = False
        env.pop("manifest", None)
        write_file(self._file("env.json"), json_bytes(env))
        write_file(self._file("config.json"), json_bytes(self.config | {"tasks": tasks}))

    def finish(self) -> None:
        """Marks the run as finished, and closes it."""
        parts = read_manifest(self._file())
        write_file(self._file(FILE), manifest_text(parts))
        env = self.run.env
        env["finished"], env["manifest"] = True, self.run.manifest_digest()
        (env["resumes"] or [env])[-1]["ended"] = now()
        write_file(self._file("env.json"), json_bytes(env))
        remove_previous(self.run.path / "checkpoint")
        self.close()

    def beating(self) -> AbstractContextManager[None]:
        """Shows that this process lives, to other machines, as long as the block goes on."""
        return beating(self._lock)

    def close(self) -> None:
        """Releases the lock."""
        self._release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {prefix + name: inner}
    return flat
