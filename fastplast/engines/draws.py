"""Random numbers of a user's module in training: dropout and the like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fastplast import seeding
from fastplast.machine.generator import isolated_generators
from fastplast.problems import Task


class Draws:
    """A stream for each member, task and update, whatever its batch mates.

    PyTorch's operations draw for all members of a batch from one generator. So members whose module draws are computed
    one after the other, the generator set to the member's stream before each. That a module draws shows in the state of
    the generator after a call.

    Args:
        seeds: one for each member.
        device: where the module computes.
    """

    def __init__(self, seeds: list[int], device: torch.device) -> None:
        self.seeds, self.device = seeds, device
        self._task, self._numbers = 0, [0] * len(seeds)

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """PyTorch's generators are afterwards as they were before."""
        with isolated_generators(self.device):
            yield

    def set_update(self, task: Task, numbers: list[int]) -> None:
        """Says which update of which task is next.

        Args:
            task: that is trained on.
            numbers: of each member's update, from 1; the number 0 is the stream of the module's initialisation.
        """
        self._task, self._numbers = task.index, numbers

    def watch(self, work: Callable[[], Any]) -> tuple[Any, bool]:
        """Calls work; returns what it gives, and whether it drew random numbers."""
        before = self._states()
        found = work()
        return found, any(not torch.equal(a, b) for a, b in zip(before, self._states()))

    def call_for_each(self, work: Callable[[int], Any]) -> list[Any]:
        """What work gives for each member's number in the group, called at the start of the member's stream."""
        found = []
        for member, (seed, number) in enumerate(zip(self.seeds, self._numbers)):
            torch.manual_seed(int(seeding.words(seed, "module", 1, self._task, number)[0] >> 1))
            found.append(work(member))
        return found

    def _states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else states
