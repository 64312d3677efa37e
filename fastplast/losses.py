"""What is minimised: cross-entropy where labels are classes, squared error where they are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Loss(NamedTuple):
    """A loss of outputs `[B, C]` and labels.

    Attributes:
        mean: over examples, a number.
        error: from outputs `[..., B, C]` and labels to the misclassified fraction `[...]`; NaN where there are no
            classes.
        has_classes: whether labels are classes, so that there is an error.
        definitions: of the columns of metrics that are otherwise than of classes.
        units: likewise.
    """

    mean: Callable[[Tensor, Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]
    has_classes: bool
    definitions: dict[str, str]
    units: dict[str, str]


def _squared(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(outputs, labels.to(outputs.dtype).reshape(outputs.shape))


def _misclassified(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.argmax(-1) != labels).double().mean(-1)


def _no_error(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.full(outputs.shape[:-2], torch.nan, dtype=torch.float64, device=outputs.device)


_SQUARED, _UNIT = "mean squared error, over outputs and", "squared unit of labels"
_OF_HESSIANS = ("sharpness", "nuclear_norm", "frobenius_norm", "trace")
LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(functional.cross_entropy, _misclassified, True, {}, {}),
    "mse": Loss(
        _squared,
        _no_error,
        False,
        {
            "loss": f"{_SQUARED} over all examples of the task, regulariser left out",
            "test_loss": f"{_SQUARED} over the task's test examples, which are never trained on",
        },
        dict.fromkeys(("loss", "test_loss", "online_loss", "penalty"), _UNIT)
        | {f"hessian_{name}": f"{_UNIT} per squared parameter" for name in _OF_HESSIANS},
    ),
}
