"""FIRE: at a change of task every weight matrix becomes the orthogonal matrix nearest to it, scaled."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.full_reset import due
from fastplast.methods.matrices import weight_slots
from fastplast.methods.method import Method, Seen
from fastplast.networks import Slot

_ITERATIONS = 10


def polar(matrix: Tensor, is_exact: bool) -> Tensor:
    """The orthogonal factor of the polar decomposition.

    Args:
        matrix: `[O, I]`.
        is_exact: by singular values, in float64; else by iterations, which leave small singular values below 1.

    Returns:
        `[O, I]`.
    """
    if is_exact:
        u, _, v = torch.linalg.svd(matrix.double(), full_matrices=False)
        return (u @ v).float()
    x = matrix / matrix.norm().clamp(min=1e-12)
    x = x.T if matrix.shape[0] < matrix.shape[1] else x
    for _ in range(_ITERATIONS):
        x = 1.5 * x - 0.5 * x @ (x.T @ x)
    return x.T if matrix.shape[0] < matrix.shape[1] else x


def _orthogonal(weight: Tensor, slot: Slot, is_exact: bool) -> Tensor:
    """Of a kernel, each place by itself, as in the published code."""
    outputs, inputs = slot.shape[:2]
    places = weight.reshape(outputs, inputs, -1)
    scale = (outputs / inputs) ** 0.5 / places.shape[2]
    return scale * torch.stack([polar(place, is_exact) for place in places.unbind(2)], 2)


def _at_task(seen: Seen) -> Tensor:
    new, is_exact = seen.params.clone(), seen.users.chosen("polar", "svd")
    for m in torch.nonzero(due(seen)).flatten().tolist():
        for slot in weight_slots(seen.users.layout, with_head=True):
            new[m, slot.slice] = _orthogonal(seen.params[m, slot.slice], slot, bool(is_exact[m])).flatten()
    return new


fire = Method(
    is_neutral=lambda options: options["every"] == 0,
    at_task=_at_task,
)
