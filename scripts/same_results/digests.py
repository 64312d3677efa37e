"""Digests of tables, runs and texts, and fastplast's command line in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import runpy
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

# What a text may say of the moment and the place, and what is written in its stead.
_MASKS = (
    (r"fastplast \d+\.\d+\.\d+", "fastplast VERSION"),
    (r"process \d+ on \S+", "process PID on HOST"),
    (r"0x[0-9a-f]{6,}", "ADDRESS"),
    (r"\d{4}-\d\d-\d\dT[\d:]+(\+\d\d:\d\d)?", "TIME"),
    (r"about \d[\d,]* (s|min)\b|about \d+ h \d\d min", "about TIME"),
    (r"most \d[\d,]* (s|min)\b|most \d+ h \d\d min", "most TIME"),
    (r"\d[\d,]* updates/s", "RATE updates/s"),
    (r"of [\d,]+ MiB that a shard may take", "of FREE MiB that a shard may take"),
)


_CRASHED = 99


class Entries(dict[str, str]):
    """Name to digest or text; a name comes once."""

    def __setitem__(self, name: str, value: str) -> None:
        """Adds an entry.

        Raises:
            KeyError: if there is one of the name.
        """
        if name in self:
            raise KeyError(f"an entry must have a name of its own: got {name!r} twice")
        super().__setitem__(name, value)


class Done(NamedTuple):
    """What a command returned and printed, masked."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it."""
        return f"status {self.status}\n{self.out}" + (f"\nstderr:\n{self.err}" if self.err else "")


def digest(value: str | bytes) -> str:
    """The first 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()[:16]


def mask(text: str) -> str:
    """A text without paths of this process, times and rates."""
    for place, word in ((os.getcwd(), "HERE"), (os.environ["FASTPLAST_DATA"], "DATA"), (sys.executable, "PYTHON")):
        text = text.replace(place, word)
    text = text.replace(str(Path(os.getcwd()).parent), "PARENT").replace(str(Path(__file__).parents[2]), "ROOT")
    for pattern, word in _MASKS:
        text = re.sub(pattern, word, text)
    return text


def command(*words: str) -> Done:
    """Runs ``python -m fastplast`` in this process, which has what takes seconds to import.

    Args:
        words: after ``fastplast``.

    Returns:
        Status and texts.
    """
    out, err, status = io.StringIO(), io.StringIO(), 0
    with mock.patch.object(sys, "argv", ["fastplast", *words]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of runpy, where the module was imported before
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_module("fastplast", run_name="__main__")
            except SystemExit as end:
                status = int(end.code or 0)
            except Exception as error:  # which a user would see as a traceback
                status = _CRASHED
                err.write(f"{type(error).__name__}: {error}")
    return Done(status, mask(out.getvalue()).strip(), mask(err.getvalue()).strip())


def said(call: Callable[[], Any]) -> str:
    """Kind and text of the error that a call ends with.

    Args:
        call: what is wrong.

    Returns:
        The text, masked.
    """
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {mask(str(error))}"
    return "no error"


def plain(value: Any) -> Any:
    """Arrays, tables and dataclasses as what ``repr`` writes in full, to the last bit."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return {str(name): plain(value[name].tolist()) for name in value.columns}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    return value


def value_digest(value: Any) -> str:
    """Digest of numbers in whatever they are kept.

    Args:
        value: JSON values, arrays, tables, dataclasses, nested.

    Returns:
        The digest.
    """
    return digest(repr(plain(value)))


def add_table(entries: Entries, name: str, table: Any) -> None:
    """An entry for each column of an arrow table: type, which values are there, and their bytes; and their order.

    Args:
        entries: to add to.
        name: of the table.
        table: of pyarrow.
    """
    entries[f"{name}/columns"] = digest(json.dumps(table.column_names))
    for column in table.column_names:
        values = table[column].combine_chunks()
        there = json.dumps([value.is_valid for value in values])
        try:
            raw = values.fill_null(0).to_numpy(zero_copy_only=False).tobytes()
        except (TypeError, ValueError, NotImplementedError, ArithmeticError):
            raw = json.dumps(values.to_pylist()).encode()
        except Exception as error:
            if not type(error).__name__.startswith("Arrow"):
                raise
            raw = json.dumps(values.to_pylist()).encode()
        entries[f"{name}/{column}"] = digest(f"{column} {values.type} {there} ".encode() + raw)


def add_run(entries: Entries, name: str, run: Any, whole: bool = True) -> None:
    """Everything that a run left.

    Args:
        entries: to add to.
        name: of the run.
        run: a reader.
        whole: whether it was never cut short; else what tells of the interruption is left out.
    """
    add_table(entries, f"{name}/metrics", run.metrics("arrow"))
    entries[f"{name}/config"] = digest(json.dumps(run.config))
    entries[f"{name}/definitions"] = digest(json.dumps(run.definitions))
    entries[f"{name}/members"] = value_digest(run.members)
    for file in sorted((run.path / "spectra").glob("*.npz")):
        task, when = file.stem.removeprefix("task-").split("-")
        entries[f"{name}/spectra/{file.stem}"] = value_digest(run.spectra(int(task), when))
    if run.has_epochs:
        add_table(entries, f"{name}/epochs", run.epochs("arrow"))
    files = [path for path in sorted(run.path.rglob("*")) if path.is_file()]
    stored = [path for path in files if path.parent.name in ("metrics", "spectra", "epochs")]
    entries[f"{name}/bytes of tables"] = digest(b"".join(path.read_bytes() for path in stored))
    if whole:
        # The rest of env.json is versions, hardware and times; timings and progress are times.
        entries[f"{name}/notes"] = digest(mask(json.dumps(run.env["notes"])))
        entries[f"{name}/keys of env"] = " ".join(run.env)
        entries[f"{name}/columns of timings"] = " ".join(run.timings().columns)
        entries[f"{name}/files"] = " ".join(str(path.relative_to(run.path)) for path in files)
        for path in (path for path in files if path.parent.name == "checkpoint" and path.suffix == ".safetensors"):
            entries[f"{name}/checkpoint"] = digest(path.read_bytes())
