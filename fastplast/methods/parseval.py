"""Parseval regularisation: hidden weight matrices are pulled to orthogonal rows, or columns, of one length.

The penalty is ``strength * sum_l |W W^T - s I|_F^2``; of a matrix with more rows than columns, which cannot have
orthogonal rows, ``W^T W`` stands in place of ``W W^T``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.matrices import as_matrix, weight_slots
from fastplast.methods.method import Method, Seen


def _of_matrix(weight: Tensor, target: Tensor) -> Tensor:
    """4 (W W^T - s I) W."""
    wide = weight if weight.shape[0] <= weight.shape[1] else weight.T
    gram = wide @ wide.T
    gram.diagonal().sub_(target.float())
    slope = 4.0 * (gram @ wide)
    return slope if wide is weight else slope.T


def _gradient(seen: Seen) -> Tensor:
    gradient = torch.zeros_like(seen.params)
    for slot in weight_slots(seen.users.layout, with_head=False):
        gradient[:, slot.slice] = seen.of_each(
            lambda row, target, slot=slot: _of_matrix(as_matrix(row, slot), target).reshape(-1),
            seen.params,
            seen.users.options["target"],
        )
    return gradient * seen.users.strength.float()[:, None]


parseval = Method(
    takes_strength=True,
    gradient=_gradient,
)
