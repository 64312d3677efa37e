"""What every reader of results offers: of a run, of a sweep, and of a file that was exported from one."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.runs.tables import as_format, check_format, write_csv

if TYPE_CHECKING:
    import pandas
    import pyarrow


class Results(ABC):
    """What was measured of some members, for reading.

    Attributes:
        path: the directory or file.
    """

    path: Path

    @property
    @abstractmethod
    def env(self) -> dict[str, Any]:
        """Command, commit, versions, hardware and times of training."""

    @property
    @abstractmethod
    def is_finished(self) -> bool:
        """Whether everything was trained and measured."""

    @property
    @abstractmethod
    def definitions(self) -> dict[str, str]:
        """Metric to definition."""

    @property
    @abstractmethod
    def units(self) -> dict[str, str]:
        """Metric to unit, of metrics on request that have one."""

    @property
    @abstractmethod
    def members(self) -> pandas.DataFrame:
        """One row per member: its number, seed and hyperparameters."""

    @abstractmethod
    def timings(self) -> pandas.DataFrame:
        """Seconds of training and measuring, a row for each task."""

    @abstractmethod
    def _table(self) -> pyarrow.Table:
        """All metrics."""

    def metrics(self, format: str = "pandas") -> Any:
        """Everything measured so far: one row per member, task and probe time, sorted by task, start and end, member.

        Args:
            format: ``"pandas"``, ``"polars"`` or ``"arrow"``.

        Returns:
            A table of that library. Columns before ``task`` describe the member. What was not measured is null.

        Raises:
            ValueError: if the format is unknown.
            ImportError: if polars is asked for and not installed.
            StoreError: if nothing has been measured yet.
        """
        check_format(format)
        return as_format(self._table(), format)

    def export_csv(self, path: str | os.PathLike) -> Path:
        """Writes all metrics as one CSV file, replacing what was there.

        Args:
            path: the file.

        Returns:
            Its path. Null is empty, NaN is ``nan``; numbers read back as the same bits.
        """
        return write_csv(self._table(), path)
