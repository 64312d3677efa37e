"""What every reader of results offers: of a run, of a sweep, and of a file that was exported from one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas


class Results(Protocol):
    """What was measured of some members, for reading."""

    @property
    def path(self) -> Path:
        """The directory or file."""
        ...

    @property
    def env(self) -> dict[str, Any]:
        """Commit, versions, hardware and times of training."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether everything was trained and measured."""
        ...

    @property
    def definitions(self) -> dict[str, str]:
        """Metric to definition."""
        ...

    @property
    def members(self) -> pandas.DataFrame:
        """One row per member: its number, seed and hyperparameters."""
        ...

    def metrics(self, format: str = "pandas") -> Any:
        """A table of one row per member, task and probe time; see ``Run.metrics``."""
        ...

    def timings(self) -> pandas.DataFrame:
        """Seconds of training and measuring; see ``Run.timings``."""
        ...

    def export_csv(self, path: str | os.PathLike) -> Path:
        """Writes all metrics as one CSV file; see ``Run.export_csv``."""
        ...
