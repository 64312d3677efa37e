"""Tasks that are pairs of classes, each to be told apart: the protocol of Continual ImageNet."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.config import ConfigError, Experiment
from fastplast.data import Dataset
from fastplast.problems.problem import Problem


def class_pairs(problem: Problem, index: int) -> dict[str, Tensor]:
    """Two classes that a member has not seen yet, their images for training and for testing.

    Each member takes the classes in an order of its own, two by two. Once all have come, the same pairs come again in
    the same order (``class_order="repeat"``, as Dohare et al. 2024 do), or the classes are ordered anew (``redraw``).
    Of each class the first images train and the next ones test: in the order of the dataset, the same for all members
    (``subset="fixed"``, as Dohare et al. do), or in an order drawn by each member's seed (``per-seed``).

    Args:
        problem: the sequence.
        index: number of the task.

    Returns:
        ``rows`` and ``labels`` `[M, N]`, ``test_rows`` and ``test_labels`` `[M, T]`; labels are 0 and 1.
    """
    e = problem.experiment
    train, test = e.examples // 2, e.test_examples // 2
    rows, test_rows = [], []
    for seed in problem.seeds:
        images = [images_of_class(e, problem.classes[c], seed, c) for c in pair(seed, len(problem.classes), index, e)]
        rows.append(np.concatenate([own[:train] for own in images]))
        test_rows.append(np.concatenate([own[train : train + test] for own in images]))
    found = {"rows": torch.from_numpy(np.stack(rows)), "labels": _labels(len(rows), train)}
    if test:
        found |= {"test_rows": torch.from_numpy(np.stack(test_rows)), "test_labels": _labels(len(rows), test)}
    return found


def pair(seed: int, classes: int, index: int, experiment: Experiment) -> tuple[int, int]:
    """The two classes of a task.

    Args:
        seed: of the member.
        classes: C of the dataset.
        index: number of the task.
        experiment: its ``class_order``.

    Returns:
        The class of label 0 and the class of label 1.
    """
    turn, place = divmod(index, classes // 2)
    order = seeding.permutation(seed, "classes", classes, turn if experiment.class_order == "redraw" else 0)
    return int(order[2 * place]), int(order[2 * place + 1])


def rows_by_class(experiment: Experiment, dataset: Dataset, share: int = 2, least: int = 2) -> tuple[np.ndarray, ...]:
    """The images of each class, in the order of the dataset.

    Args:
        experiment: resolved.
        dataset: the images.
        share: classes that the examples of a task are of, at least.
        least: classes that there must be.

    Returns:
        One int64 vector per class.

    Raises:
        ConfigError: if there are too few classes, or a class has too few images.
    """
    classes = tuple(np.flatnonzero(dataset.labels == c).astype(np.int64) for c in range(dataset.num_classes))
    numbers = {2: "two", 5: "five", 6: "six"}
    if len(classes) < least:
        text = f"needs at least {numbers[least]} classes: got {len(classes)}."
        raise ConfigError(f"--benchmark {experiment.benchmark} {text}")
    fewest = min(map(len, classes))
    want = -(-experiment.examples // share) - (-experiment.test_examples // share)
    if want > fewest:
        mend = f" Run `fastplast data fetch {dataset.name}` for all of it." if dataset.is_embedded else ""
        raise ConfigError(
            f"--examples and --test-examples must not exceed the images of {numbers.get(share, share)} classes of "
            f"{dataset.name}: got {experiment.examples} + {experiment.test_examples} of {share * fewest} "
            f"({dataset.source}). Lower them.{mend}"
        )
    return classes


def images_of_class(experiment: Experiment, images: np.ndarray, seed: int, number: int) -> np.ndarray:
    """The images of a class in the order in which a member takes them.

    Args:
        experiment: its ``subset``.
        images: of the class.
        seed: of the member.
        number: of the class.

    Returns:
        The same rows.
    """
    if experiment.subset == "fixed":
        return images
    return images[seeding.permutation(seed, "subset", len(images), number)]


def _labels(members: int, each: int) -> Tensor:
    return torch.arange(2).repeat_interleave(each).repeat(members, 1)
