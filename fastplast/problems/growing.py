"""Tasks whose classes or examples come one after the other: class-incremental, 5+1, warm start, noisy chunks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.config import Experiment
from fastplast.data import Dataset
from fastplast.problems.class_pairs import images_of_class, rows_by_class
from fastplast.problems.problem import Problem

HARD, EASY = 5, 1  # classes of a task of 5+1
NOISE = (0.5, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0)  # share of labels redrawn, chunk by chunk


def class_incremental(problem: Problem, index: int) -> dict[str, Tensor]:
    """All classes so far, of which every task adds ``new_classes``, in an order of each member's own.

    A task has equally many examples of each class so far, ``examples`` in all, so that every task has the same number
    of updates. Labels are those of the dataset, with an output for each of its classes. After the last class all stay.

    Args:
        problem: the sequence.
        index: number of the task.

    Returns:
        ``rows`` and ``labels`` `[M, N]`, and of test examples where there are some.
    """
    e, classes = problem.experiment, len(problem.classes)
    count = min((index + 1) * e.new_classes, classes)
    chosen = [seeding.permutation(seed, "classes", classes)[:count] for seed in problem.seeds]
    return _of_classes(problem, chosen, min(e.new_classes, classes))


def five_plus_one(problem: Problem, index: int) -> dict[str, Tensor]:
    """Five classes and one class in turn, none of them seen before: hard tasks and easy ones.

    Members take the classes in an order of their own, six by six; once fewer than six are left, from the first again.
    Every task has as many examples, and so updates; in an easy one, the images of its class come five times in an
    epoch. Kumar et al. 2023, 5+1 CIFAR, on CIFAR-100.

    Args:
        problem: the sequence.
        index: number of the task.

    Returns:
        ``rows`` and ``labels`` `[M, N]`, and of test examples where there are some.
    """
    classes, place = len(problem.classes), index // 2
    first = (HARD + EASY) * (place % (classes // (HARD + EASY)))
    part = slice(first, first + HARD) if index % 2 == 0 else slice(first + HARD, first + HARD + EASY)
    chosen = [seeding.permutation(seed, "classes", classes)[part] for seed in problem.seeds]
    return _of_classes(problem, chosen, HARD)


def warm_start(problem: Problem, index: int) -> dict[str, Tensor]:
    """Half of each member's examples, twice in an epoch; from the second task on all of them.

    Ash and Adams 2020. What starts from scratch is a member with the method ``full_reset``.

    Args:
        problem: the sequence.
        index: number of the task.

    Returns:
        ``rows`` and ``labels`` `[M, N]`.
    """
    if index:
        return {"rows": problem.rows, "labels": problem.labels}
    count = problem.rows.shape[1]
    half = torch.arange(count) % max(1, count // 2)
    return {"rows": problem.rows[:, half], "labels": problem.labels[:, half]}


def noisy_chunks(problem: Problem, index: int) -> dict[str, Tensor]:
    """Ten chunks of other images, of whose labels half, then ever fewer and at last none are redrawn uniformly.

    Lee et al. 2024 (Hare and Tortoise). After the tenth the chunks come again.

    Args:
        problem: the sequence, of ten times as many images as a task has.
        index: number of the task.

    Returns:
        ``rows`` and ``labels`` `[M, N]`.
    """
    chunk, examples = index % len(NOISE), problem.experiment.examples
    part = slice(chunk * examples, (chunk + 1) * examples)
    labels = problem.labels[:, part].clone()
    for row, seed in zip(labels.numpy(), problem.seeds):
        wrong = seeding.uniform(seed, "problem", examples, chunk) < NOISE[chunk]
        drawn = seeding.words(seed, "problem", examples, chunk, 1) % np.uint64(problem.num_classes)
        row[wrong] = drawn.astype(np.int64)[wrong]
    return {"rows": problem.rows[:, part], "labels": labels}


def _of_classes(problem: Problem, chosen: list[np.ndarray], least: int) -> dict[str, Tensor]:
    """Equally many examples of each class: the first of its images for training, and for testing those that follow.

    A class trains with as many images as it has in a task of `least` classes, at most: where a task would take more,
    they come again. So test images are never trained on, in whatever task.
    """
    e, tests = problem.experiment, problem.experiment.test_examples
    most, most_tests = -(-e.examples // least), -(-tests // least)
    found: dict[str, list[np.ndarray]] = {"rows": [], "labels": [], "test_rows": [], "test_labels": []}
    for seed, classes in zip(problem.seeds, chosen):
        images = [images_of_class(e, problem.classes[c], seed, c) for c in classes.tolist()]
        held = {"": (e.examples, 0, most), "test_": (tests, most, most + most_tests)}
        for name, (total, first, end) in held.items():
            counts = [total // len(classes) + (i < total % len(classes)) for i in range(len(classes))]
            own = [rows[first:end][np.arange(n) % max(1, end - first)] for rows, n in zip(images, counts)]
            found[f"{name}rows"].append(np.concatenate(own))
            found[f"{name}labels"].append(np.repeat(classes, counts))
    fields = {name: torch.from_numpy(np.stack(own)) for name, own in found.items()}
    return fields if tests else {name: fields[name] for name in ("rows", "labels")}


def classes_for_adding(experiment: Experiment, dataset: Dataset) -> tuple[np.ndarray, ...]:
    """The images of each class, enough of each for a task of the first classes alone."""
    return rows_by_class(experiment, dataset, min(experiment.new_classes, dataset.num_classes))


def classes_by_six(experiment: Experiment, dataset: Dataset) -> tuple[np.ndarray, ...]:
    """The images of each class, of which there are at least six, enough of each for a hard task."""
    return rows_by_class(experiment, dataset, HARD, HARD + EASY)
