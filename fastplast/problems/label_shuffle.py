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
    labels = problem.labels.numpy().copy()
    kind, classes = problem.experiment.label_shuffle, problem.num_classes
    for row, seed in zip(labels, problem.seeds):
        if kind == "example":
            row[:] = row[seeding.permutation(seed, "labels", len(row), index)]
        elif kind == "class":
            row[:] = seeding.permutation(seed, "labels", classes, index)[row]
        else:
            row[:] = (seeding.words(seed, "labels", len(row), index) % np.uint64(classes)).astype(np.int64)
    return {"labels": torch.from_numpy(labels)}


def label_drift(problem: Problem, index: int) -> dict[str, Tensor]:
    """Labels go over from one shuffle to the next in ``drift_tasks`` tasks, more of them in each.

    Of D tasks after a shuffle, in the j-th (from 0) a share of about j/D of the examples has its label of the next one:
    those whose uniform number, drawn for the shuffle, is below it. After arXiv 2602.09234, which changes environments
    gradually.

    Args:
        problem: the sequence; its ``label_shuffle`` says what a shuffle is.
        index: number of the task.

    Returns:
        ``labels``, `[M, N]`.
    """
    whole, part = divmod(index, problem.experiment.drift_tasks)
    before, after = (label_shuffle(problem, whole + more)["labels"] for more in (0, 1))
    share = part / problem.experiment.drift_tasks
    goes = [seeding.uniform(seed, "problem", before.shape[1], whole) < share for seed in problem.seeds]
    return {"labels": torch.where(torch.from_numpy(np.stack(goes)), after, before)}
