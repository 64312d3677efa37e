"""Problems: sequences of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from fastplast.problems.class_pairs import class_pairs
from fastplast.problems.label_shuffle import label_shuffle
from fastplast.problems.pixel_permute import pixel_permute
from fastplast.problems.problem import Problem, build_problem, make_task
from fastplast.problems.task import Task


class Change(NamedTuple):
    """What makes one task of another: a function to the fields of a task that change, and what it does in words."""

    apply: Callable[[Problem, int], dict[str, Tensor]]
    summary: str


CHANGES: dict[str, Change] = {
    "label_shuffle": Change(label_shuffle, "labels are shuffled for every task"),
    "pixel_permute": Change(pixel_permute, "pixels are permuted for every task"),
    "class_pairs": Change(class_pairs, "every task is to tell two classes apart"),
}

__all__ = ["CHANGES", "Change", "Problem", "Task", "build_problem", "make_task"]
