"""TensorBoard: a run as event files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastplast.drawing.settings import Setting
from fastplast.runs.run import Run
from fastplast.tracking.sink import ONLINE, label_of, path_of
from fastplast.training.setup import Setup, member_columns


class TensorBoard:
    """Event files: a TensorBoard run for each setting, for each of some members, and for the epochs.

    A process that goes on with a run writes everything that was measured anew, behind a mark that makes readers forget
    what came before; of epochs, from where training goes on.
    """

    parts = updates = 0

    def __init__(self, directory: str, run: Run, setup: Setup, settings: Sequence[Setting]) -> None:
        self.place = Path(directory) / path_of(run)
        self.writers: dict[str, Any] = {}
        about = self._writer("about", 0)
        about.add_text("config", f"```json\n{(run.path / 'config.json').read_text()}```")
        about.flush()
        described = member_columns(setup)
        for setting in settings:
            member = setting.members[0][1]
            values = {name: column[member] for name, column in described.items() if name not in ("member", "seed")}
            self._hyperparameters(label_of(setting), values | {"seeds": len(setting.members)})

    def _writer(self, series: str, purge: int) -> Any:
        if series not in self.writers:
            from torch.utils.tensorboard import SummaryWriter

            self.writers[series] = SummaryWriter(str(self.place / series), purge_step=purge)
        return self.writers[series]

    def _hyperparameters(self, label: str, values: dict[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        known = {k: v for k, v in values.items() if isinstance(v, (bool, int, float, str))}
        for summary in hparams(known, {"end/error": 0.0, "start/hessian_srank": 0.0}):
            self._writer(label, 0).file_writer.add_summary(summary)

    def write_part(self, task: int, when: str, series: dict[str, dict[str, float]]) -> None:
        """Writes everything measured at a task's start or end."""
        for label, values in series.items():
            writer = self._writer(label, 0)
            for name, value in values.items():
                writer.add_scalar(f"{when}/{name}", value, task)
            writer.flush()

    def write_epoch(self, updates: int, values: dict[str, float]) -> None:
        """Writes the means of an epoch, but what is not finite."""
        writer = self._writer(ONLINE, updates)
        for name, value in values.items():
            if math.isfinite(value):
                writer.add_scalar(f"{ONLINE}/{name}", value, updates)
        writer.flush()

    def close(self) -> None:
        """Closes the event files."""
        for writer in self.writers.values():
            writer.close()
