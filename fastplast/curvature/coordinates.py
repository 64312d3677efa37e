"""Coordinates of a member's Hessian block in which its exact null directions are absent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastplast.curvature.tail import Tail, TailState, output_residual


@dataclass(frozen=True)
class Coordinates:
    """A member's tail after an orthogonal change of coordinates that leaves out directions with H v = 0.

    What is left out, all of it exact:

    - adding a constant to all outputs: classes are rotated by a Helmert basis, C to C-1 (``weight``, ``residual``);
    - inputs that are linearly dependent on the data: inputs and bias are rotated by their right singular vectors;
    - units whose slope, or whose slope and value, is zero on all examples (dead units);
    - of K > C-1 units with the same slopes on all examples (always-on units of ReLU, all units of the identity), the
      combinations that do not reach the outputs. These *silent* units keep only the C-1 directions of their incoming
      weights that the residual couples to their outgoing weights.

    The order of the units in ``hidden`` is K active, J silent, units with outgoing weights only, and the ones.

    Attributes:
        inputs: `[N, r]`.
        hidden: `[N, L]`.
        slope: `[N, K+J]`, of active and silent units.
        second_derivative: `[N, K+J]`, second derivative of the activation, or None where it is zero.
        weight: `[C-1, K]`, outgoing weights of the active units.
        basis: `[C, C-1]`, the Helmert basis.
        state: of the member alone, for the softmax.
    """

    inputs: Tensor
    hidden: Tensor
    slope: Tensor
    second_derivative: Tensor | None
    weight: Tensor
    basis: Tensor
    state: TailState

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Sizes (C-1, K, J, r, L)."""
        classes, active = self.weight.shape
        return classes, active, self.slope.shape[1] - active, self.inputs.shape[1], self.hidden.shape[1]

    @property
    def silent_rank(self) -> int:
        """Coordinates that a silent unit keeps of its incoming weights."""
        return min(self.weight.shape[0], self.inputs.shape[1])

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        classes, active, silent, inputs, hidden = self.sizes
        return active * inputs + silent * self.silent_rank + classes * hidden

    def residual(self, labels: Tensor) -> Tensor:
        """The rotated derivative of the cross-entropy in the outputs.

        Args:
            labels: `[N]`.

        Returns:
            `[N, C-1]`.
        """
        return output_residual(self.state, labels.unsqueeze(0))[0] @ self.basis


def coordinates(tail: Tail) -> Coordinates:
    """Finds the coordinates of one member.

    Args:
        tail: of one member (`M` = 1), with finite state.

    Returns:
        Its coordinates; they do not depend on the labels.
    """
    state = tail.state
    basis = helmert(tail.output_weight.shape[1]).to(state.hidden)
    weight = basis.T @ tail.output_weight[0]
    hidden, slope = state.hidden[0, :, :-1], state.slope[0]
    if state.second_derivative is None:
        weight, hidden = _mix_equal_slopes(weight, hidden, slope)

    has_slope = (slope != 0).any(0)
    has_weight = (weight != 0).any(0)
    units = torch.arange(slope.shape[1], device=slope.device)
    active, silent = units[has_slope & has_weight], units[has_slope & ~has_weight]
    outgoing = units[~has_slope & (hidden != 0).any(0)]
    coupled = torch.cat((active, silent))
    columns = torch.cat((coupled, outgoing))
    return Coordinates(
        inputs=_independent_inputs(state.inputs[0]),
        hidden=torch.cat((hidden[:, columns], state.hidden[0, :, -1:]), 1),
        slope=slope[:, coupled],
        second_derivative=None if state.second_derivative is None else state.second_derivative[0][:, coupled],
        weight=weight[:, active],
        basis=basis,
        state=state,
    )


def helmert(classes: int) -> Tensor:
    """Orthonormal basis of the vectors that sum to zero.

    Args:
        classes: C.

    Returns:
        `[C, C-1]` fp64; column j is proportional to (1, ..., 1, -(j+1), 0, ..., 0) with j+1 ones.
    """
    column = torch.arange(1, classes, dtype=torch.float64)
    row = torch.arange(classes, dtype=torch.float64).unsqueeze(1)
    basis = (row < column).double() - column * (row == column)
    return basis / (column * (column + 1)).sqrt()


def _mix_equal_slopes(weight: Tensor, hidden: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Rotates units with equal slopes on all examples so that at most C-1 of them reach the outputs.

    Within such a group an orthogonal mix of units is again a set of units with these slopes, so every formula of the
    Hessian still holds for the mixed outgoing weights and hidden values.
    """
    classes = weight.shape[0]
    _, group_of = torch.unique(slope, dim=1, return_inverse=True)
    for group in range(int(group_of.max()) + 1):
        units = (group_of == group).nonzero().squeeze(1)
        if len(units) <= classes or not slope[:, units[0]].any():
            continue
        rotation = torch.linalg.svd(weight[:, units]).Vh.T
        mixed = weight[:, units] @ rotation
        mixed[:, classes:] = 0.0  # the rotation makes them zero up to rounding
        weight = weight.index_copy(1, units, mixed)
        hidden = hidden.index_copy(1, units, hidden[:, units] @ rotation)
    return weight, hidden


def _independent_inputs(inputs: Tensor) -> Tensor:
    """Inputs in the basis of their right singular vectors, without those of singular value zero.

    Singular values, not eigenvalues of the second moment: the coupling of the two layers is linear in the inputs, so a
    direction dropped at 1e-8, which is all that a second moment resolves, may change the Hessian by as much.
    """
    triangle = torch.linalg.qr(inputs, mode="r").R
    _, values, vectors = torch.linalg.svd(triangle, full_matrices=False)
    cutoff = max(inputs.shape) * torch.finfo(inputs.dtype).eps * values.max()
    return inputs @ vectors[values > cutoff].T
