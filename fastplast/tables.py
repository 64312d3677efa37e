"""Tables of a run: read from Parquet, turned into those of other libraries, written as CSV."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.checkpoint import write_file
from fastplast.config import closest

if TYPE_CHECKING:
    import pyarrow

FORMATS = ("pandas", "polars", "arrow")


def read_part(path: Path) -> pyarrow.Table:
    """Reads a Parquet file of a run."""
    from pyarrow import parquet

    # Not read_table: it takes a folder named like "lr=0.1" above the file for a column.
    with parquet.ParquetFile(path) as file:
        return file.read()


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
