"""Coefficients of one optimiser step: a table with a row for each member, whose columns have their names here."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

(
    OLD1,  # what is kept of the first moment: beta1, or the momentum of sgd
    NEW1,  # 1 - beta1
    OLD2,  # beta2
    NEW2,  # 1 - beta2
    RATE,  # learning rate, by adam divided by 1 - beta1^step
    ROOT,  # square root of 1 - beta2^step
    EPSILON,
    PULL,  # 2 strength
    KEEP,  # what decoupled weight decay leaves of a weight
    DECAY,  # coupled weight decay
) = range(10)
NUM_COEFFICIENTS = 10


class Hyperparameters(NamedTuple):
    """Hyperparameters of `M` members, each a float64 tensor `[M]`."""

    learning_rate: Tensor
    beta1: Tensor
    beta2: Tensor
    epsilon: Tensor
    momentum: Tensor
    weight_decay: Tensor
    strength: Tensor

    def to(self, device: torch.device | str) -> Hyperparameters:
        """The same on another device."""
        return Hyperparameters(*(value.to(device) for value in self))

    def rows(self, block: slice) -> Hyperparameters:
        """Those of some members."""
        return Hyperparameters(*(value[block] for value in self))


def coefficients(hyper: Hyperparameters, steps: Tensor, optimizer: str, decoupled: bool) -> Tensor:
    """The coefficients of a step, formed in float64 and rounded once.

    Args:
        hyper: of M members.
        steps: `[M]`, number of this update for each member, from 1.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly or enters the gradient.

    Returns:
        `[M, 10]` float32, columns as above.
    """
    sgd = optimizer == "sgd"
    columns = {
        OLD1: hyper.momentum if sgd else hyper.beta1,
        NEW1: 1.0 - hyper.beta1,
        OLD2: hyper.beta2,
        NEW2: 1.0 - hyper.beta2,
        RATE: hyper.learning_rate if sgd else hyper.learning_rate / (1.0 - hyper.beta1**steps),
        ROOT: (1.0 - hyper.beta2**steps).sqrt(),
        EPSILON: hyper.epsilon,
        PULL: 2.0 * hyper.strength,
        KEEP: 1.0 - hyper.learning_rate * (hyper.weight_decay * decoupled),
        DECAY: hyper.weight_decay * (not decoupled),
    }
    return torch.stack([columns[number] for number in range(NUM_COEFFICIENTS)], dim=1).float()


def coefficients_of_updates(
    hyper: Hyperparameters, steps: Tensor, count: int, optimizer: str, decoupled: bool
) -> Tensor:
    """`coefficients` of updates in a row.

    Args:
        hyper: of M members.
        steps: `[M]`, updates that each member has made.
        count: how many more.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly or enters the gradient.

    Returns:
        `[count, M, 10]` float32.
    """
    number = steps + torch.arange(1, count + 1, device=steps.device)[:, None]
    every = Hyperparameters(*(value.repeat(count) for value in hyper))
    return coefficients(every, number.flatten(), optimizer, decoupled).unflatten(0, (count, -1))
