"""A problem: a dataset, the examples that each member drew from it, and the change that makes one task of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fastplast.config import Experiment


@dataclass(frozen=True)
class Problem:
    """A sequence of tasks for the members of a group.

    Attributes:
        experiment: resolved.
        seeds: one per member.
        images: `[R, I]` uint8 or float32.
        rows: `[M, N]` int64, the examples of each member; of a change in chunks, of all of them.
        labels: `[M, N]` int64, their labels in the dataset.
        test_rows: `[M, T]` int64, examples that are never trained on; None where there are none, or the change chooses.
        test_labels: `[M, T]` int64.
        scale: `[I]` float32: input = pixel * scale + shift.
        shift: `[I]` float32.
        shape: (channels, height, width).
        num_classes: C of a task, the outputs of a network.
        classes: of a change that chooses examples by class, the images of each class of the dataset.
    """

    experiment: Experiment
    seeds: tuple[int, ...]
    images: Tensor
    rows: Tensor
    labels: Tensor
    scale: Tensor
    shift: Tensor
    shape: tuple[int, int, int]
    num_classes: int
    test_rows: Tensor | None = None
    test_labels: Tensor | None = None
    classes: tuple[np.ndarray, ...] = ()
