"""Makes problems of datasets, and tasks of problems."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.config import OWN, ConfigError, Experiment
from fastplast.data import Dataset
from fastplast.problems.changes import CHANGES, check_task
from fastplast.problems.problem import Problem
from fastplast.problems.task import Task
from fastplast.registered import named


def build_problem(experiment: Experiment, dataset: Dataset, seeds: tuple[int, ...]) -> Problem:
    """Draws each member's examples, and as many others as are asked for to test it on.

    With ``subset="per-seed"`` a member's examples come from its own stream, with ``fixed`` all take those of seed 0.

    Args:
        experiment: resolved.
        dataset: the images.
        seeds: one per member.

    Returns:
        The problem.

    Raises:
        ConfigError: if the dataset has too few images.
    """
    change, train = CHANGES[experiment.change], experiment.examples * CHANGES[experiment.change].chunks
    have, want, classes = len(dataset.labels), train + experiment.test_examples, ()
    if change.begin is not None:
        classes = change.begin(experiment, dataset)
        rows = labels = np.zeros((len(seeds), train), dtype=np.int64)
    elif want > have:
        mend = f" Run `fastplast data fetch {dataset.name}` for all of it." if dataset.is_embedded else ""
        raise ConfigError(
            f"{_names(experiment)} must not exceed the images of {dataset.name}: got {_counts(experiment, train)} of "
            f"{have} ({dataset.source}). Lower {_names(experiment)}.{mend}"
        )
    else:
        own = seeds if experiment.subset == "per-seed" else (0,) * len(seeds)
        drawn = {seed: seeding.permutation(seed, "subset", have)[:want] for seed in set(own)}
        rows = np.stack([drawn[seed] for seed in own])
        labels = dataset.labels.astype(np.int64)[rows]
    if experiment.pixel_range == "standardized" and dataset.images.dtype != np.uint8:
        dataset = _center(dataset)
    scale, shift = pixel_map(experiment.pixel_range, dataset)
    return Problem(
        experiment=experiment,
        seeds=seeds,
        images=torch.from_numpy(dataset.images),
        rows=torch.from_numpy(rows[:, :train]),
        labels=torch.from_numpy(labels[:, :train]),
        test_rows=torch.from_numpy(rows[:, train:]) if rows.shape[1] > train else None,
        test_labels=torch.from_numpy(labels[:, train:]) if rows.shape[1] > train else None,
        scale=scale,
        shift=shift,
        shape=dataset.shape,
        num_classes=experiment.outputs or dataset.num_classes,
        classes=classes,
    )


def _names(experiment: Experiment) -> str:
    return "--examples and --test-examples" if experiment.test_examples else "--examples"


def _counts(experiment: Experiment, train: int) -> str:
    return f"{train} + {experiment.test_examples}" if experiment.test_examples else f"{train}"


def _center(dataset: Dataset) -> Dataset:
    """With the mean of each channel taken off in float64: numbers far from 0 would lose digits in float32."""
    pixels = dataset.images.reshape(-1, dataset.shape[0], prod(dataset.shape[1:]))
    centered = np.empty_like(pixels)
    for c in range(dataset.shape[0]):
        centered[:, c] = pixels[:, c] - pixels[:, c].mean(dtype=np.float64)
    return replace(dataset, images=centered.reshape(dataset.images.shape))


def pixel_map(pixel_range: str, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The affine map from pixels to inputs; pixels that are floating point numbers are inputs as they are.

    Pixels that are to be standardized are bytes or centred.

    Args:
        pixel_range: ``unit`` to [0, 1], ``symmetric`` to [-1, 1], ``standardized`` to mean 0 and variance 1 over the
            dataset's images, per channel.
        dataset: the images.

    Returns:
        scale and shift, `[I]` float32.

    Raises:
        ConfigError: if the range is one of bytes and the pixels are none.
    """
    channels, size = dataset.shape[0], prod(dataset.shape[1:])
    is_float = dataset.images.dtype != np.uint8
    if is_float and pixel_range == "symmetric":
        raise ConfigError(
            f"--pixel-range symmetric needs images of bytes: got {dataset.images.dtype} from {dataset.source}. Use "
            "unit, which takes them as they are, or standardized."
        )
    if pixel_range == "standardized":
        pixels = dataset.images.reshape(-1, channels, size)
        mean = pixels.mean(axis=(0, 2), dtype=np.float64)
        std = np.sqrt((pixels.astype(np.float32) ** 2).mean(axis=(0, 2), dtype=np.float64) - mean**2)
        std = np.where(std > 0, std, 1.0)  # a constant channel becomes 0
        scale, shift = 1.0 / std, -mean / std
    else:
        low, high = {"unit": (0.0, 1.0), "symmetric": (-1.0, 1.0)}[pixel_range]
        scale, shift = np.full(channels, (high - low) / (1.0 if is_float else 255.0)), np.full(channels, low)
    return tuple(torch.from_numpy(np.repeat(v, size).astype(np.float32)) for v in (scale, shift))  # type: ignore[return-value]


def make_task(problem: Problem, index: int) -> Task:
    """Task `index` of every member; a function of the seeds and the index alone.

    Args:
        problem: the sequence.
        index: number of the task, from 0.

    Returns:
        The task.
    """
    e, changed = problem.experiment, {}
    change = CHANGES[e.change]
    if index > 0 or e.change_first_task or change.begin is not None or e.loss != "cross_entropy":
        with named(f"apply of the problem {e.change!r} for task {index}", "problem"):
            changed = change.apply(problem, index)
    unchanged = {"images": problem.images, "rows": problem.rows, "labels": problem.labels, "pixels": None}
    unchanged |= {"test_rows": problem.test_rows, "test_labels": problem.test_labels}
    fields = {name: value if value is None else value.contiguous() for name, value in (unchanged | changed).items()}
    task = Task(
        **fields,  # pyright: ignore[reportArgumentType]
        index=index,
        scale=problem.scale,
        shift=problem.shift,
        shape=problem.shape,
        num_classes=problem.num_classes,
        loss=e.loss,
    )
    if e.change in OWN["problem"]:
        check_task(e.change, task, problem)
    return task
