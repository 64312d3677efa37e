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

    Test examples get new labels in the same way: the new names of classes are those of the task, and labels that are
    permuted over examples or redrawn are so among the test examples, so that nothing can be known of them.

    Args:
        problem: the sequence.
        index: number of the task.

    Returns:
        ``labels``, `[M, N]`, and where there are test examples ``test_labels``, `[M, T]`.
    """
    found = {"labels": _shuffled(problem, problem.labels, index, "labels")}
    if problem.test_labels is not None:
        found["test_labels"] = _shuffled(problem, problem.test_labels, index, "test_labels")
    return found


def _shuffled(problem: Problem, old: Tensor, index: int, purpose: str) -> Tensor:
    kind, classes = problem.experiment.label_shuffle, problem.num_classes
    labels = old.numpy().copy()
    for row, seed in zip(labels, problem.seeds):
        if kind == "example":
            row[:] = row[seeding.permutation(seed, purpose, len(row), index)]
        elif kind == "class":
            row[:] = seeding.permutation(seed, "labels", classes, index)[row]
        else:
            row[:] = (seeding.words(seed, purpose, len(row), index) % np.uint64(classes)).astype(np.int64)
    return torch.from_numpy(labels)


def label_drift(problem: Problem, index: int) -> dict[str, Tensor]:
    """Labels go over from one shuffle to the next in ``drift_tasks`` tasks, more of them in each.

    Of D tasks after a shuffle, in the j-th (from 0) a share of about j/D of the examples has its label of the next one:
    those whose uniform number, drawn for the shuffle, is below it. After arXiv 2602.09234, which changes environments
    gradually.

    Args:
        problem: the sequence; its ``label_shuffle`` says what a shuffle is.
        index: number of the task.

    Returns:
        ``labels``, `[M, N]`, and where there are test examples ``test_labels``, `[M, T]`.
    """
    whole, part = divmod(index, problem.experiment.drift_tasks)
    before, after = (label_shuffle(problem, whole + more) for more in (0, 1))
    share, found = part / problem.experiment.drift_tasks, {}
    for name, purpose in (("labels", "problem"), ("test_labels", "test_labels")):
        if name in before:
            count = before[name].shape[1]
            # The shuffle itself uses epoch 0 of its stream.
            epoch = int(purpose == "test_labels")
            goes = [seeding.uniform(seed, purpose, count, whole, epoch) < share for seed in problem.seeds]
            found[name] = torch.where(torch.from_numpy(np.stack(goes)), after[name], before[name])
    return found
