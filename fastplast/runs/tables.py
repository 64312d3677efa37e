"""Tables of a run: read from Parquet, turned into those of other libraries, written as CSV.

The metadata of a table say, as JSON under ``fastplast``, which of its columns describe a member (``described``) and
which were measured of it (``values``). The first stand before ``task``, the others after ``when`` or ``epoch``.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.bounded import read_bytes, reason
from fastplast.runs.files import StoreError, write_file
from fastplast.runs.parquet import check_digest, decode, encode, with_digest
from fastplast.text import closest

if TYPE_CHECKING:
    import pyarrow

FORMATS = ("pandas", "polars", "arrow")
_KEY = b"fastplast"
ORDER = [("task", "ascending"), ("when", "descending"), ("member", "ascending")]


def described(table: Any) -> list[str]:
    """The columns of a table that describe a member.

    Args:
        table: Arrow's, or a pandas one, which has no metadata.

    Returns:
        Their names, in order; where there are no metadata, as in files of earlier versions, those before ``task``.
    """
    names = _names(table)
    if (known := _note_of(table).get("described")) is not None:
        return [name for name in names if name in known]
    return names[: names.index("task")] if "task" in names else []


def measured(table: Any) -> list[str]:
    """The columns of a table that were measured.

    Args:
        table: Arrow's, or a pandas one, which has no metadata.

    Returns:
        Their names, in order; where there are no metadata, those after ``when``, or of curves after ``epoch``.
    """
    names = _names(table)
    if (known := _note_of(table).get("values")) is not None:
        return [name for name in names if name in known]
    return names[max((names.index(name) + 1 for name in ("when", "epoch") if name in names), default=len(names)) :]


def _names(table: Any) -> list[str]:
    return list(table.column_names if hasattr(table, "column_names") else table.columns)


def _note_of(table: Any) -> dict[str, Any]:
    metadata = table.schema.metadata if hasattr(table, "schema") else None
    note = json.loads((metadata or {}).get(_KEY, b"{}"))
    return note if isinstance(note, dict) else {}


def _with_note(table: pyarrow.Table, described: Iterable[str], values: Iterable[str], **more: Any) -> pyarrow.Table:
    note = {"described": list(described), "values": list(values), **more}
    return table.replace_schema_metadata({_KEY: json.dumps(note)})


def write_noted(table: pyarrow.Table, path: Path, note: Mapping[str, Any]) -> None:
    """Writes a Parquet file with a note, replacing what was there; the same table and note make the same bytes.

    The checksums of Parquet cover pages and not the footer, so the file holds a digest of all of it.

    Args:
        table: what to write.
        path: the file.
        note: what JSON can say, kept in the file's metadata.
    """
    write_file(path, with_digest(encode(_with_note(table, described(table), measured(table), **note))))


def read_noted(path: Path, rows: bool = True) -> tuple[pyarrow.Table, dict[str, Any]]:
    """Reads a Parquet file and its note.

    Args:
        path: the file.
        rows: whether its rows are wanted, and not the note alone.

    Returns:
        The table, empty without its rows; and the note, empty if there is none.

    Raises:
        StoreError: if it is no Parquet file, or is damaged.
    """
    try:
        data = read_bytes(path)
        check_digest(data)
        table = decode(data, rows)
        note = _note_of(table)
        table = _with_note(table, described(table), measured(table))
    except Exception as error:  # as in ``reading``
        raise StoreError(
            f"path must be a Parquet file: got {path}, which is none or is damaged ({reason(error)})."
        ) from error
    return table, {name: value for name, value in note.items() if name not in ("described", "values")}


def make_table(described: Mapping[str, Any], place: Mapping[str, Any], values: Mapping[str, Any]) -> pyarrow.Table:
    """A table of columns of one length, which knows what they are.

    Args:
        described: columns that describe members.
        place: ``task``, and ``when`` or ``epoch``.
        values: columns that were measured.

    Returns:
        The columns in this order.
    """
    import pyarrow

    return _with_note(pyarrow.table({**described, **place, **values}), described, values)


def with_id(table: pyarrow.Table, ids: Sequence[str]) -> pyarrow.Table:
    """A table with a first column ``id``, which describes its members too."""
    import pyarrow

    names = ["id", *described(table)]
    return _with_note(table.add_column(0, "id", pyarrow.array(ids)), names, measured(table))


def with_members(table: pyarrow.Table, numbers: Sequence[int]) -> pyarrow.Table:
    """A table with other numbers of its members."""
    import pyarrow

    at = table.column_names.index("member")
    return table.set_column(at, "member", pyarrow.array(numbers, table.schema.field(at).type))


def rows_where(table: pyarrow.Table, kept: Sequence[bool]) -> pyarrow.Table:
    """The rows of a table that are kept."""
    import pyarrow

    return table.filter(pyarrow.array(kept, pyarrow.bool_()))


def make_probe_table(task: int, when: str, columns: Mapping[str, Any]) -> pyarrow.Table:
    """The table of one probe time: what describes the member, then task and when, then what was measured.

    Args:
        task: number of the task.
        when: ``"start"`` or ``"end"``.
        columns: name to `[M]` values; see ``RunWriter.write_metrics``.

    Returns:
        One row per member.

    Raises:
        ValueError: if columns are missing or do not fit together.
    """
    import pyarrow

    names = [name for name in columns if name not in ("task", "when")]
    if "updates" not in names or "member" not in names[: names.index("updates")]:
        raise ValueError(
            f"columns must have member, hyperparameters, updates, and then what was measured: got {', '.join(names)}."
        )
    arrays = {}
    for name in names:
        try:
            arrays[name] = pyarrow.array(on_host(columns[name]))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise ValueError(f"columns[{name!r}] must be `[M]` numbers, texts or booleans: {error}.") from error
        if len(arrays[name]) != len(columns["member"]):
            raise ValueError(
                f"columns[{name!r}] must have a value for each of {len(columns['member'])} members: got "
                f"{len(arrays[name])}."
            )
    rows = len(columns["member"])
    place = {"task": pyarrow.array([task] * rows, pyarrow.int64()), "when": pyarrow.array([when] * rows)}
    split = names.index("updates")
    return make_table({n: arrays[n] for n in names[:split]}, place, {n: arrays[n] for n in names[split:]})


def concatenate(tables: Sequence[pyarrow.Table]) -> pyarrow.Table:
    """Tables one below the other; what one of them lacks is null there.

    Args:
        tables: at least one; columns of one name have types that fit each other.

    Returns:
        Their rows in order. A column that describes members in one of them, a setting that an earlier version did not
        have, does so here.
    """
    import pyarrow

    table = pyarrow.concat_tables(tables, promote_options="permissive")
    settings = dict.fromkeys(name for part in tables for name in described(part))
    values = dict.fromkeys(name for part in tables for name in measured(part) if name not in settings)
    table = table.select([*settings, *(name for name in table.column_names if name not in settings)])
    # A column without any value so far, such as diverged_step, has no type of its own.
    numbers = [f.with_type(pyarrow.float64()) if pyarrow.types.is_null(f.type) else f for f in table.schema]
    return _with_note(table.cast(pyarrow.schema(numbers)), settings, values)


def merge_shards(shards: Sequence[tuple[pyarrow.Table, Sequence[int]]]) -> pyarrow.Table:
    """Metrics of several runs as those of one.

    Args:
        shards: the metrics of each run, and the numbers of the members that are taken from it.

    Returns:
        What describes a member, then task and when, then what was measured. Members are numbered anew, by what
        describes them.
    """
    import pyarrow

    tables = []
    for i, (table, numbers) in enumerate(shards):
        chosen = set(numbers)
        table = rows_where(table, [member in chosen for member in table["member"].to_pylist()])
        tables.append(_untype_empty_columns(table.append_column("shard", pyarrow.array([i] * len(table)))))
    return _renumber(concatenate(tables))


def members_of(table: pyarrow.Table) -> Any:
    """What describes the members of a table of metrics.

    Args:
        table: of one or several tasks.

    Returns:
        One row per member, by number, as a pandas table.
    """
    rows = table.select(described(table)).to_pandas()
    return rows.drop_duplicates("member").sort_values("member").reset_index(drop=True)


def check_format(format: str) -> None:
    """Checks the name of a library of tables.

    Args:
        format: as given.

    Raises:
        ValueError: if it is unknown.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be a known name: got {format!r}. {closest(format, FORMATS)}")


def as_format(table: pyarrow.Table, format: str) -> Any:
    """A table of another library.

    Args:
        table: what to convert.
        format: ``"pandas"``, ``"polars"`` or ``"arrow"``.

    Returns:
        A table of that library.

    Raises:
        ValueError: if the format is unknown.
        ImportError: if polars is asked for and not installed.
    """
    check_format(format)
    if format == "pandas":
        return table.to_pandas()
    if format == "arrow":
        return table
    try:
        import polars  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "format 'polars' needs the package polars, which is not installed. Install it with `pip install "
            "polars`, or ask for 'pandas' or 'arrow'."
        ) from error
    return polars.from_arrow(table)


def write_csv(table: pyarrow.Table, path: str | os.PathLike) -> Path:
    """Writes a table as one CSV file, replacing what was there.

    Args:
        table: what to write.
        path: the file.

    Returns:
        Its path.
    """
    import pyarrow.csv

    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    path = Path(path).expanduser()
    write_file(path, buffer.getvalue())
    return path


def _untype_empty_columns(table: pyarrow.Table) -> pyarrow.Table:
    """Takes the type of columns without a value: in another table they may have another."""
    import pyarrow

    for i, (name, column) in enumerate(zip(table.column_names, table.columns)):
        if column.null_count == len(column):
            table = table.set_column(i, name, pyarrow.nulls(len(column)))
    return table


def _renumber(table: pyarrow.Table) -> pyarrow.Table:
    """Numbers members by what describes them, and sorts as a run's table is."""
    by = [name for name in described(table) if name not in ("member", "id", "seed", "engine", "data_source")] + ["seed"]
    who = table.select(["shard", "member", *by]).to_pandas().drop_duplicates(["shard", "member"])
    who = who.sort_values(by, kind="stable", na_position="first").reset_index(drop=True)
    number = {(s, m): i for i, (s, m) in enumerate(zip(who["shard"], who["member"]))}
    places = zip(table["shard"].to_pylist(), table["member"].to_pylist())
    table = with_members(table.drop_columns(["shard"]), [number[place] for place in places])
    return table.sort_by(ORDER)


def on_host(values: Any) -> Any:
    """A tensor as a NumPy array, and anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
