"""Tasks that differ in their labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.problems.problem import Problem


def label_shuffle(problem: Problem, index: int) -> dict[str, Tensor]:
    """New labels for the same images.

    ``example``: the label vector is permuted over the examples, whatever their class (the paper, after Kumar et al.
    2023). ``class``: the names of the classes are permuted (Elsayed, Mahmood 2024). ``iid``: every label is redrawn
    uniformly (Baveja et al. 2025). Each task starts again from the dataset's labels.

    Args:
        problem: the sequence.
        index: number of the task.

    Returns:
        ``labels``, `[M, N]`.
    """
    kind, classes = problem.experiment.label_shuffle, problem.num_classes
    labels = problem.labels.numpy().copy()
    for row, seed in zip(labels, problem.seeds):
        if kind == "example":
            row[:] = row[seeding.permutation(seed, "labels", len(row), index)]
        elif kind == "class":
            row[:] = seeding.permutation(seed, "labels", classes, index)[row]
        else:
            row[:] = (seeding.words(seed, "labels", len(row), index) % np.uint64(classes)).astype(np.int64)
    return {"labels": torch.from_numpy(labels)}
