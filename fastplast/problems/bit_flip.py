"""Slowly changing regression, or bit flipping: one bit of the inputs changes from task to task."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.config import Experiment
from fastplast.data import Dataset
from fastplast.problems.problem import Problem

BITS, SLOW, FEATURES, BETA = 20, 15, 100, 0.7


def bit_flip(problem: Problem, index: int) -> dict[str, Tensor]:
    """Fresh examples whose first 15 bits are the same in all of a task, and whose other 5 are random.

    From one task to the next one of the 15, drawn uniformly, is flipped. The label is what a member's fixed network of
    100 threshold units makes of the bits (``target``). Dohare et al. 2024, section "slowly changing regression".

    Args:
        problem: on the dataset ``bits``, whose image i is the number i in binary digits.
        index: number of the task.

    Returns:
        ``rows`` and ``labels`` `[M, N]`, int64 and float32.
    """
    rows = [_rows(seed, index, problem.experiment.examples) for seed in problem.seeds]
    labels = [target(seed, digits(own)) for seed, own in zip(problem.seeds, rows)]
    return {"rows": torch.from_numpy(np.stack(rows)), "labels": torch.from_numpy(np.stack(labels))}


def choose_no_examples(experiment: Experiment, dataset: Dataset) -> tuple[np.ndarray, ...]:
    """Nothing: every task draws its own."""
    return ()


def slow_bits(seed: int, index: int) -> np.ndarray:
    """The bits that all examples of a task share.

    Args:
        seed: of the member.
        index: number of the task.

    Returns:
        `[15]` of 0 and 1.
    """
    bits = (seeding.words(seed, "problem", SLOW) >> np.uint64(63)).astype(np.int64)
    flipped = seeding.words(seed, "problem", index, 0, 1) % np.uint64(SLOW)
    return (bits + np.bincount(flipped.astype(np.int64), minlength=SLOW)) % 2


def digits(rows: np.ndarray) -> np.ndarray:
    """Numbers as binary digits `[N, 20]`, the first bit first."""
    return (rows[:, None] >> np.arange(BITS - 1, -1, -1)) & 1


def target(seed: int, bits: np.ndarray) -> np.ndarray:
    """What a member is to learn: a fixed network of 100 threshold units with weights of 1 and -1.

    With w the 20 weights and the bias of a unit and S the number of those that are -1, it is 1 where w (x, 1) exceeds
    0.7 * 21 - S, else 0.

    Args:
        seed: of the member.
        bits: `[N, 20]` of 0 and 1.

    Returns:
        `[N]` float32, whole numbers.
    """
    drawn = seeding.words(seed, "problem", FEATURES * (BITS + 1) + FEATURES + 1, 0, 2) >> np.uint64(63)
    signs = 2 * drawn.astype(np.int64) - 1
    hidden, output = signs[: FEATURES * (BITS + 1)].reshape(FEATURES, BITS + 1), signs[FEATURES * (BITS + 1) :]
    threshold = BETA * (BITS + 1) - (hidden == -1).sum(1)
    fires = bits @ hidden[:, :BITS].T + hidden[:, BITS] > threshold
    return (fires @ output[:FEATURES] + output[FEATURES]).astype(np.float32)


def _rows(seed: int, index: int, examples: int) -> np.ndarray:
    fast = (seeding.words(seed, "problem", examples, index, 3) >> np.uint64(64 - (BITS - SLOW))).astype(np.int64)
    slow = int("".join(map(str, slow_bits(seed, index))), 2)
    return (slow << (BITS - SLOW)) + fast
