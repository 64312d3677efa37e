"""Tables of a run: read from Parquet, turned into those of other libraries, written as CSV."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.config import closest
from fastplast.runs.files import StoreError, write_file

if TYPE_CHECKING:
    import pyarrow

FORMATS = ("pandas", "polars", "arrow")
_NOTE = b"fastplast"
ORDER = [("task", "ascending"), ("when", "descending"), ("member", "ascending")]


def read_part(path: Path) -> pyarrow.Table:
    """Reads a Parquet file of a run."""
    from pyarrow import parquet

    # Not read_table: it takes a folder named like "lr=0.1" above the file for a column.
    with parquet.ParquetFile(path) as file:
        return file.read()


def write_part(table: pyarrow.Table, path: Path) -> None:
    """Writes a Parquet file of a run, replacing what was there; the same table makes the same bytes."""
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    write_file(path, buffer.getvalue())


def write_noted(table: pyarrow.Table, path: Path, note: Mapping[str, Any]) -> None:
    """Writes a Parquet file with a note, replacing what was there; the same table and note make the same bytes.

    Args:
        table: what to write.
        path: the file.
        note: what JSON can say, kept in the file's metadata.
    """
    write_part(table.replace_schema_metadata({_NOTE: json.dumps(note)}), path)


def read_noted(path: Path, rows: bool = True) -> tuple[pyarrow.Table | None, dict[str, Any]]:
    """Reads a Parquet file and its note.

    Args:
        path: the file.
        rows: whether its rows are wanted, and not the note alone.

    Returns:
        The table, None without its rows; and the note, empty if there is none.

    Raises:
        StoreError: if it is no Parquet file.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            note = json.loads((file.schema_arrow.metadata or {}).get(_NOTE, b"{}"))
            return file.read().replace_schema_metadata(None) if rows else None, note
    except pyarrow.ArrowInvalid as error:
        raise StoreError(f"path must be a Parquet file: got {path}, which is none or is damaged ({error}).") from error


def table_of(columns: Mapping[str, Any]) -> pyarrow.Table:
    """A table of columns of one length."""
    import pyarrow

    return pyarrow.table(dict(columns))


def with_column(table: pyarrow.Table, name: str, values: Sequence[Any]) -> pyarrow.Table:
    """A table with a column replaced, by values of its type, or else put first."""
    import pyarrow

    if name not in table.column_names:
        return table.add_column(0, name, pyarrow.array(values))
    at = table.column_names.index(name)
    return table.set_column(at, name, pyarrow.array(values, table.schema.field(at).type))


def rows_where(table: pyarrow.Table, kept: Sequence[bool]) -> pyarrow.Table:
    """The rows of a table that are kept."""
    import pyarrow

    return table.filter(pyarrow.array(kept, pyarrow.bool_()))


def measured(task: int, when: str, columns: Mapping[str, Any]) -> pyarrow.Table:
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
    arrays |= {"task": pyarrow.array([task] * rows, pyarrow.int64()), "when": pyarrow.array([when] * rows)}
    split = names.index("updates")
    return pyarrow.table({name: arrays[name] for name in (*names[:split], "task", "when", *names[split:])})


def joined(tables: Sequence[pyarrow.Table]) -> pyarrow.Table:
    """Tables one below the other; what one of them lacks is null there.

    Args:
        tables: at least one; columns of one name have types that fit each other.

    Returns:
        Their rows in order. A column that stands before ``task`` in one of them, a setting that an earlier version did
        not have, does so here.
    """
    import pyarrow

    table = pyarrow.concat_tables(tables, promote_options="permissive")
    described = dict.fromkeys(name for part in tables for name in _described(part))
    table = table.select([*described, *(name for name in table.column_names if name not in described)])
    # A column without any value so far, such as diverged_step, has no type of its own.
    numbers = [f.with_type(pyarrow.float64()) if pyarrow.types.is_null(f.type) else f for f in table.schema]
    return table.cast(pyarrow.schema(numbers))


def merged(shards: Sequence[tuple[pyarrow.Table, Sequence[int]]]) -> pyarrow.Table:
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
        table = table.filter(pyarrow.array([member in chosen for member in table["member"].to_pylist()]))
        tables.append(_forgetful(table.append_column("shard", pyarrow.array([i] * len(table)))))
    return _numbered(joined(tables))


def members_of(table: pyarrow.Table) -> Any:
    """What describes the members of a table of metrics.

    Args:
        table: columns before ``task`` describe the member.

    Returns:
        One row per member of these columns, by number, as a pandas table.
    """
    described = table.select(_described(table)).to_pandas()
    return described.drop_duplicates("member").sort_values("member").reset_index(drop=True)


def _described(table: pyarrow.Table) -> list[str]:
    """Columns that describe a member; none in a table without tasks."""
    names = table.column_names
    return names[: names.index("task")] if "task" in names else []


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
    write_file(Path(path), buffer.getvalue())
    return Path(path)


def _forgetful(table: pyarrow.Table) -> pyarrow.Table:
    """The table, its columns without a value having no type: in another table they may have one."""
    import pyarrow

    for i, (name, column) in enumerate(zip(table.column_names, table.columns)):
        if column.null_count == len(column):
            table = table.set_column(i, name, pyarrow.nulls(len(column)))
    return table


def _numbered(table: pyarrow.Table) -> pyarrow.Table:
    """Numbers members by what describes them, and sorts as a run's table is."""
    import pyarrow

    by = [name for name in _described(table) if name not in ("member", "id", "seed", "engine", "data_source")] + [
        "seed"
    ]
    who = table.select(["shard", "member", *by]).to_pandas().drop_duplicates(["shard", "member"])
    who = who.sort_values(by, kind="stable", na_position="first").reset_index(drop=True)
    number = {(s, m): i for i, (s, m) in enumerate(zip(who["shard"], who["member"]))}
    places = zip(table["shard"].to_pylist(), table["member"].to_pylist())
    numbers = pyarrow.array([number[place] for place in places], pyarrow.int64())
    table = table.set_column(table.column_names.index("member"), "member", numbers).drop_columns(["shard"])
    return table.sort_by(ORDER)


def on_host(values: Any) -> Any:
    """A tensor as a NumPy array, and anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
