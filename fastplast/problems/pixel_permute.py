"""Tasks that differ in the order of their pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.problems.problem import Problem


def pixel_permute(problem: Problem, index: int) -> dict[str, Tensor]:
    """The same images with their pixels in a new order; the channels of a pixel move together.

    Each task permutes the dataset's own order, not the one of the task before.

    Args:
        problem: the sequence.
        index: number of the task.

    Returns:
        ``pixels``, the permutations of the inputs `[M, I]`.
    """
    channels, height, width = problem.shape
    size = height * width
    offsets = np.arange(channels, dtype=np.int64)[:, None] * size
    drawn = {seed: seeding.permutation(seed, "pixels", size, index) for seed in set(problem.seeds)}
    pixels = np.stack([(offsets + drawn[seed]).ravel() for seed in problem.seeds])
    return {"pixels": torch.from_numpy(pixels)}
