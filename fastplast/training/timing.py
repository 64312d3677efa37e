"""Where the time of a task goes."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Timing:
    """Seconds of a task.

    Attributes:
        waiting: for measurements.
        hessian: of each member's Hessian at the task's start and end, where they were measured.
        epochs: trained since the clock began.
        first: seconds of the first epoch of the process, if it is of this task: kernels are compiled in it.
    """

    waiting: float = 0.0
    hessian: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    first: float = 0.0
    _begun: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def training(self) -> float:
        """All of them but those of waiting for measurements."""
        return time.perf_counter() - self._begun - self.waiting

    @property
    def rate(self) -> float:
        """Epochs per second, without the first of the process unless it is the only one."""
        first = self.first if self.epochs > 1 else 0.0
        return (self.epochs - (first > 0)) / (self.training - first)

    @contextlib.contextmanager
    def count_as_waiting(self) -> Iterator[None]:
        """A range whose time is not training's."""
        begun = time.perf_counter()
        yield
        self.waiting += time.perf_counter() - begun
