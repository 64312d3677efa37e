"""The minibatches of every epoch; for a GPU those of the next epoch are drawn while it trains."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.config import Experiment
from fastplast.engines import available_cores

_MOST_THREADS = 8


class EpochOrders:
    """Draws what ``seeding.orders`` says, in threads and ahead of time where another processor trains meanwhile.

    Of 1,000 members an epoch's orders take a core a quarter of a second, longer than a GPU takes for the updates.

    Args:
        experiment: resolved; its examples, minibatches, epochs and tasks.
        seeds: one per member.
        ahead: whether to draw ahead; otherwise orders are drawn by whoever asks, when asked.
    """

    def __init__(self, experiment: Experiment, seeds: list[int], ahead: bool) -> None:
        self._experiment, self._seeds = experiment, seeds
        count = min(available_cores(), _MOST_THREADS, len(seeds))
        self._threads = ThreadPoolExecutor(count, "fastplast-orders") if ahead else None
        self._blocks = [seeds[i * len(seeds) // count : (i + 1) * len(seeds) // count] for i in range(count)]
        self._drawn: dict[tuple[int, int], list[Future[np.ndarray]]] = {}
        self._taken: tuple[tuple[int, int], Tensor] | None = None

    def __enter__(self) -> EpochOrders:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def take(self, task: int, epoch: int) -> Tensor:
        """The minibatches of an epoch.

        Args:
            task: number of the task.
            epoch: number of the epoch.

        Returns:
            `[M, S, B]` int64, as ``seeding.orders`` has them; the same memory if it is asked for twice in a row.
        """
        if self._taken is None or self._taken[0] != (task, epoch):
            self._taken = (task, epoch), torch.from_numpy(self._take(task, epoch))
        return self._taken[1]

    def _take(self, task: int, epoch: int) -> np.ndarray:
        if self._threads is None:
            return self._draw(self._seeds, task, epoch)
        following = (task, epoch + 1) if epoch + 1 < self._experiment.epochs else (task + 1, 0)
        places = [(task, epoch), *([following] if following[0] < (self._experiment.tasks or 0) else [])]
        self._drawn = {at: self._drawn.get(at) or self._begin(*at) for at in places}
        return np.concatenate([part.result() for part in self._drawn[task, epoch]])

    def _begin(self, task: int, epoch: int) -> list[Future[np.ndarray]]:
        assert self._threads is not None
        return [self._threads.submit(self._draw, block, task, epoch) for block in self._blocks]

    def _draw(self, seeds: list[int], task: int, epoch: int) -> np.ndarray:
        return seeding.orders(seeds, self._experiment.examples, self._experiment.batch_size, task, epoch)
