"""Weights & Biases: a run through its own interface.

Its reader of TensorBoard's event files (``sync_tensorboard``) would not do: it heeds no mark behind which a resumed
process writes anew, so that points would be there twice, and takes the files of a directory's folders for the
directory's own, so that values of members would be among those of their mean.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from fastplast.drawing.settings import Setting
from fastplast.runs.files import config_digest
from fastplast.runs.run import Run
from fastplast.tracking.sink import ONLINE, import_package, path_of
from fastplast.training.setup import Setup


class Wandb:
    """A run of Weights & Biases, the same one after a resume, which goes on behind the last points that it holds.

    Offline there is nobody to ask what it holds: every process then makes a run of its own.
    """

    def __init__(self, project: str, run: Run, setup: Setup, settings: Sequence[Setting]) -> None:
        wandb = import_package("wandb", "--wandb")
        offline = os.environ.get("WANDB_MODE") in ("offline", "dryrun")
        identity = config_digest([run.config, run.env["started"], str(run.path.resolve())])[:16]
        name = path_of(run)
        self.alone = len(settings) == 1
        self.run = wandb.init(
            project=project,
            name=name.rsplit("/", 1)[-1],
            group=name.split("/")[0] if "/" in name else None,
            id=None if offline else identity,
            resume=None if offline else "allow",
            config=setup.experiment.to_dict(),
        )
        for axis, pattern in (("task", "start/*"), ("task", "end/*"), ("updates", f"{ONLINE}/*")):
            self.run.define_metric(axis)
            self.run.define_metric(pattern, step_metric=axis)
        self.parts = int(self.run.summary.get("parts", 0))
        self.updates = int(self.run.summary.get("updates", 0))

    def write_part(self, task: int, when: str, series: dict[str, dict[str, float]]) -> None:
        """Logs everything measured at a task's start or end."""
        values: dict[str, float] = {"task": task, "parts": 2 * task + 1 + (when == "end")}
        for label, columns in series.items():
            label = label.removeprefix("mean").removeprefix("/") if self.alone else label
            values |= {f"{when}/{name}" + (f"/{label}" if label else ""): value for name, value in columns.items()}
        self.run.log(values)

    def write_epoch(self, updates: int, values: dict[str, float]) -> None:
        """Logs the means of an epoch, but what is not finite."""
        known = {f"{ONLINE}/{name}": value for name, value in values.items() if math.isfinite(value)}
        self.run.log(known | {"updates": updates})

    def close(self) -> None:
        """Ends this process's part of the run."""
        self.run.finish()
