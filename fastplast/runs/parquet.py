"""Parquet files: of a run's parts, and of exported results."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.bounded import read_bytes
from fastplast.runs.files import write_file
from fastplast.runs.reading import reading

if TYPE_CHECKING:
    import pyarrow

_MOST_EXPANSION = 10_000  # rows for a byte of a file: columns of one value repeated take next to none
_MARK = b"fastplast-sha256"


def read_part(path: Path, check: Callable[[int, str], None] | None = None) -> pyarrow.Table:
    """Reads a Parquet file of a run.

    Args:
        path: the file.
        check: called with its size and SHA-256, to refuse a file that is not what was written.

    Returns:
        Its table.

    Raises:
        StoreError: if it is missing or damaged.
    """
    with reading(path):
        data = read_bytes(path)
        if check is not None:
            check(len(data), hashlib.sha256(data).hexdigest())
        return decode(data)


def decode(data: bytes, rows: bool = True) -> pyarrow.Table:
    """The table of a Parquet file; whatever pyarrow raises if it is none.

    Args:
        data: the file's content.
        rows: whether its rows are wanted.

    Returns:
        The table, empty without its rows.
    """
    import pyarrow
    from pyarrow import parquet

    # Not read_table: it takes a folder named like "lr=0.1" above the file for a column.
    with parquet.ParquetFile(pyarrow.BufferReader(data), page_checksum_verification=True) as file:
        if not rows:
            return file.schema_arrow.empty_table()
        _check_sizes(file.metadata, len(data))
        table = file.read()
        table.validate(full=True)
        return table


def _check_sizes(metadata: Any, size: int) -> None:
    # Refuses a file that says of itself that it takes far more memory than its bytes can hold. What it says of a column
    # is not asked: where that is damaged, asking ends the process.
    groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    claimed = max(metadata.num_rows, *groups, 0)
    if claimed > _MOST_EXPANSION * size or min(groups, default=0) < 0:
        raise ValueError(f"it claims {claimed:,} rows or bytes of some in a file of {size:,} bytes")


def write_part(table: pyarrow.Table, path: Path) -> bytes:
    """Writes a Parquet file of a run, replacing what was there; the same table makes the same bytes.

    Args:
        table: what to write.
        path: the file.

    Returns:
        What was written.
    """
    data = encode(table)
    write_file(path, data)
    return data


def encode(table: pyarrow.Table) -> bytes:
    """A table as a Parquet file, with a checksum of each page; the same table makes the same bytes.

    Args:
        table: what to write.

    Returns:
        The file's content.
    """
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def _footer(data: bytes) -> int:
    """Where the footer of a Parquet file begins: before its length and the last four bytes."""
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def with_digest(data: bytes) -> list[bytes]:
    """A Parquet file with a digest of all of it: the checksums of Parquet cover pages, and not the footer.

    Args:
        data: the file's content.

    Returns:
        The file in consecutive pieces; the digest is before the footer, where no reader of Parquet looks.
    """
    at = _footer(data)
    return [data[:at], _MARK, hashlib.sha256(data).digest(), data[at:]]


def check_digest(data: bytes) -> None:
    """Refuses a file whose bytes are not those of the digest in it; one of an earlier version has none.

    Args:
        data: the file's content.

    Raises:
        ValueError: if they are not.
    """
    at = _footer(data)
    end, length = at - 32, len(_MARK)
    if end >= length and data[end - length : end] == _MARK:
        digest = hashlib.sha256(data[: end - length])
        digest.update(data[at:])
        if digest.digest() != data[end:at]:
            raise ValueError("its bytes are not those of its digest")
