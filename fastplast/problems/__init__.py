"""Problems: sequences of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from fastplast.problems.label_shuffle import label_shuffle
from fastplast.problems.pixel_permute import pixel_permute
from fastplast.problems.problem import Problem, build_problem, make_task
from fastplast.problems.task import Task


class Change(NamedTuple):
    """What makes one task of another: a function to (labels, pixels), and a line for ``fastplast list benchmarks``."""

    apply: Callable[[Problem, int], tuple[Tensor, Tensor | None]]
    summary: str


CHANGES: dict[str, Change] = {
    "label_shuffle": Change(label_shuffle, "labels are shuffled for every task"),
    "pixel_permute": Change(pixel_permute, "pixels are permuted for every task"),
}

__all__ = ["CHANGES", "Change", "Problem", "Task", "build_problem", "make_task"]
