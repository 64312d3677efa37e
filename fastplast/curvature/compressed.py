"""The same Hessian in fewer coordinates, for tails that are wide for the number of examples and classes.

With S = L L' and C-1 columns in L, the Gauss-Newton part of the incoming weights is F F' with F of N (C-1) columns, and
for a piecewise-linear activation the residual part couples them to the outgoing weights through K (C-1) columns P. All
that H does to the incoming weights happens in the span of [F, P]: a QR factorisation of it replaces K r coordinates by
(N + K)(C-1), exactly. The triangular factor alone gives H in these coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.curvature.coordinates import Coordinates
from fastplast.curvature.hessian import Residual
from fastplast.curvature.spectrum import norm


def is_compressible(coords: Coordinates) -> bool:
    """Whether compression at least halves the coordinates of the incoming weights, so that the QR pays.

    Args:
        coords: coordinates of a member.

    Returns:
        True or False; False for every activation with a second derivative.
    """
    classes, active, silent, inputs, _ = coords.sizes
    return (
        coords.second_derivative is None
        and silent == 0
        and 2 * classes * (len(coords.inputs) + active) <= active * inputs
    )


def compressed_dimension(coords: Coordinates) -> int:
    """Number of coordinates after compression.

    Args:
        coords: coordinates of a member.

    Returns:
        (N + K)(C-1) + (C-1) L.
    """
    classes, active, _, _, hidden = coords.sizes
    return classes * (len(coords.inputs) + active + hidden)


def compressed_hessian(coords: Coordinates, labels: Tensor, residual: Residual) -> tuple[Tensor, Tensor, Tensor]:
    """Hessian and gradient of one member in the compressed coordinates.

    Args:
        coords: coordinates of the member; ``is_compressible``.
        labels: `[N]`.
        residual: of the member.

    Returns:
        Hessian `[D, D]`, gradient `[D]` and the Frobenius norm of the Gauss-Newton part, a scalar.
    """
    classes, active, _, inputs, hidden = coords.sizes
    examples = len(coords.inputs)
    root = _softmax_root(coords) / examples**0.5  # [N, C-1, C-1], columns last
    pull = torch.einsum("nce,ck,nk->kne", root, coords.weight, coords.slope)
    incoming = (pull.unsqueeze(1) * coords.inputs.T[None, :, :, None]).reshape(active * inputs, examples * classes)
    coupling = coords.inputs.new_zeros(active, inputs, active, classes)
    coupling.diagonal(dim1=0, dim2=2).copy_(residual.coupling.permute(2, 1, 0))
    triangle = torch.linalg.qr(torch.cat((incoming, coupling.view(active * inputs, -1)), 1), mode="r").R
    del incoming, coupling
    incoming, coupling = triangle.split((examples * classes, active * classes), 1)
    outgoing = torch.einsum("nce,nl->clne", root, coords.hidden).reshape(classes * hidden, examples * classes)

    factor = torch.cat((incoming, outgoing))
    matrix = factor @ factor.T
    gauss_newton_norm = norm(matrix)
    rows = len(incoming)
    block = coupling.view(rows, active, classes).transpose(1, 2)
    matrix[:rows, rows:].view(rows, classes, hidden)[..., :active] += block
    matrix[rows:, :rows].view(classes, hidden, rows)[:, :active] += block.permute(1, 2, 0)
    gradient = torch.cat(
        (coupling @ coords.weight.T.flatten(), (coords.residual(labels).T @ coords.hidden / examples).flatten())
    )
    return matrix, gradient, gauss_newton_norm


def _softmax_root(coords: Coordinates) -> Tensor:
    """A factor L of S = L L' in the rotated classes, `[N, C-1, C-1]`.

    S = E E' with E = diag(sqrt p) - p sqrt(p)', whose diagonal sqrt(p_c) (1 - p_c) is free of cancellation.
    """
    probability, others = coords.state.probability[0], coords.state.others[0]
    root = probability.sqrt()
    wide = -probability.unsqueeze(2) * root.unsqueeze(1)
    wide.diagonal(dim1=1, dim2=2).copy_(root * others)
    return torch.linalg.qr((coords.basis.T @ wide).transpose(1, 2), mode="r").R.transpose(1, 2)
