"""What makes one task of another, by name, and changes of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastplast.config import BENCHMARKS, LOSSES, ConfigError, Experiment, add_own
from fastplast.data import Dataset
from fastplast.problems.bit_flip import bit_flip, choose_no_examples
from fastplast.problems.class_pairs import class_pairs, rows_by_class
from fastplast.problems.growing import (
    class_incremental,
    classes_by_six,
    classes_for_adding,
    five_plus_one,
    noisy_chunks,
    warm_start,
)
from fastplast.problems.label_shuffle import label_drift, label_shuffle
from fastplast.problems.pixel_permute import pixel_permute
from fastplast.problems.problem import Problem
from fastplast.problems.task import Task
from fastplast.registered import RegisteredError
from fastplast.text import closest


class Change(NamedTuple):
    """What makes one task of another.

    Attributes:
        apply: from the problem and the number of a task, from 0, to the fields of ``Task`` that change: ``images``,
            ``rows``, ``labels``, ``pixels``, ``test_rows``, ``test_labels``. A function of the seeds and the number.
        summary: what it does, in words.
        begin: of a change that chooses examples itself: finds the images of each class, or nothing. Otherwise each
            member's examples are drawn before the first task and stay.
        chunks: how many times as many examples are drawn as a task has.
    """

    apply: Callable[[Problem, int], dict[str, Tensor]]
    summary: str
    begin: Callable[[Experiment, Dataset], tuple[np.ndarray, ...]] | None = None
    chunks: int = 1


CHANGES: dict[str, Change] = {
    "label_shuffle": Change(label_shuffle, "labels are shuffled for every task"),
    "pixel_permute": Change(pixel_permute, "pixels are permuted for every task"),
    "class_pairs": Change(class_pairs, "every task is to tell two classes apart", rows_by_class),
    "label_drift": Change(label_drift, "labels go over from one shuffle to the next, task by task"),
    "bit_flip": Change(bit_flip, "one of 15 bits is flipped; numbers are to be told", choose_no_examples),
    "class_incremental": Change(class_incremental, "every task adds classes to those so far", classes_for_adding),
    "five_plus_one": Change(five_plus_one, "five new classes, then one, in turn", classes_by_six),
    "warm_start": Change(warm_start, "half of the examples, then all of them"),
    "noisy_chunks": Change(noisy_chunks, "other images for every task, with ever fewer wrong labels", chunks=10),
}
_NAMES = (*CHANGES, *BENCHMARKS)


def register(
    name: str,
    change: Change,
    *,
    dataset: str | None = None,
    tasks: int = 100,
    network: str = "mlp",
    loss: str = "cross_entropy",
    outputs: int | None = None,
    **preset: Any,
) -> None:
    """Makes a problem of one's own known to this process: to train on it, and to resume what was trained on it.

    Args:
        name: what ``Experiment(benchmark=...)`` calls it.
        change: what makes its tasks.
        dataset: of which they are made, if the experiment names no other.
        tasks: how many there are, if the experiment does not say.
        network: that learns them, likewise.
        loss: ``cross_entropy``, or ``mse`` where labels are numbers.
        outputs: of a network; one for each class of the dataset if None.
        preset: ``examples``, ``test_examples``, ``batch_size`` and ``subset``, if the experiment does not say.

    Raises:
        ValueError: if the name is one of the package's.
        ConfigError: if the loss is unknown.
    """
    add_own("problem", name, _NAMES)
    if loss not in LOSSES:
        raise ConfigError(f"loss must be a known name: got {loss!r}. {closest(loss, LOSSES)}")
    row = {"dataset": dataset, "change": name, "tasks": tasks, "network": network, "loss": loss, "outputs": outputs}
    CHANGES[name], BENCHMARKS[name] = change, {k: v for k, v in row.items() if v is not None or k == "dataset"} | preset


def check_task(name: str, task: Task, problem: Problem) -> None:
    """Refuses a task of a user's problem that engines would read beyond its bounds.

    Args:
        name: of the problem.
        task: that its change made.
        problem: of which.

    Raises:
        RegisteredError: naming the field.
    """
    members, examples = len(problem.seeds), problem.experiment.examples
    kind = torch.int64 if task.loss == "cross_entropy" else torch.float32
    shapes: dict[str, tuple[Tensor | None, torch.dtype, tuple[int, ...], int]] = {
        "rows": (task.rows, torch.int64, (members, examples), len(task.images)),
        "labels": (task.labels, kind, (members, examples), task.num_classes),
        "pixels": (task.pixels, torch.int64, (members, problem.images.shape[1]), problem.images.shape[1]),
        "test_rows": (task.test_rows, torch.int64, (members, -1), len(task.images)),
        "test_labels": (task.test_labels, kind, (members, -1), task.num_classes),
    }
    for field, (tensor, dtype, shape, end) in shapes.items():
        if tensor is None:
            continue
        is_number = dtype == torch.float32
        fits = tensor.dtype == dtype and all(a in (b, -1) or b == -1 for a, b in zip(tensor.shape, shape))
        if is_number:
            fits &= tuple(tensor.shape[2:]) == ((task.num_classes,) if tensor.ndim == 3 or task.num_classes > 1 else ())
        else:
            fits &= tensor.ndim == 2 and bool(((tensor >= 0) & (tensor < end)).all())
        if not fits:
            what = f"{str(dtype)[6:]} {list(shape)}" + ("" if is_number else f" in 0..{end - 1}")
            raise RegisteredError(
                f"apply of the problem {name!r} for task {task.index} must give {field} that are {what}: got "
                f"{str(tensor.dtype)[6:]} {list(tensor.shape)}."
            )
