"""Exact Hessian of the mean cross-entropy in the last two dense layers, assembled from its structure.

With a the inputs and h the hidden values of an example (both with a trailing 1), W the outgoing weights, s and b the
first and second derivatives of the activation, S = diag(p) - p p' and r = p - y, the block is H = G + R:

    G[(k,i),(l,j)] = mean  s_k s_l (W' S W)_kl  a_i a_j        R[(k,i),(k,j)] = mean  b_k (W' r)_k  a_i a_j
    G[(k,i),(c,l)] = mean  s_k (W' S)_kc        a_i h_l        R[(k,i),(c,k)] = mean  r_c s_k       a_i
    G[(c,l),(d,m)] = mean  S_cd                 h_l h_m        the rest of R is zero

Each line is a sum over examples of an outer product of two small vectors, so it is one matrix product whose rows are
examples. The Gauss-Newton part G does not depend on the labels; R is block diagonal over hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fastplast.curvature.coordinates import Coordinates, coordinates
from fastplast.curvature.tail import Tail

CHUNK_BYTES = 2**23  # of outer products held at a time; fixed, so that sums are grouped alike for everybody


@dataclass(frozen=True)
class Residual:
    """The residual part R of one member.

    Attributes:
        coupling: `[K+J, C-1, r]`, blocks between a unit's outgoing and incoming weights.
        incoming: `[K+J, r, r]`, blocks of a unit's incoming weights; None where the activation is piecewise linear.
    """

    coupling: Tensor
    incoming: Tensor | None

    @cached_property
    def eigenvalues(self) -> Tensor:
        """All eigenvalues that can be nonzero, `[.]`.

        Without ``incoming`` they are plus and minus the singular values of the couplings.
        """
        if self.incoming is None:
            if self.coupling.numel() == 0:
                return self.coupling.flatten()
            values = torch.linalg.svdvals(self.coupling).flatten()
            return torch.cat((values, -values))
        units, classes, inputs = self.coupling.shape
        block = self.incoming.new_zeros(units, inputs + classes, inputs + classes)
        block[:, :inputs, :inputs] = self.incoming
        block[:, inputs:, :inputs] = self.coupling
        block[:, :inputs, inputs:] = self.coupling.transpose(1, 2)
        return torch.linalg.eigvalsh(block).flatten()

    @property
    def negatives(self) -> Tensor:
        """|negative eigenvalues|, descending."""
        return (-self.eigenvalues[self.eigenvalues < 0]).sort(descending=True).values


def scaled(residual: Residual, scale: float) -> Residual:
    """The residual part divided by a number, with its eigenvalues if they are known.

    Args:
        residual: of a member.
        scale: a power of two, so that no digit changes.

    Returns:
        A new one.
    """
    result = Residual(residual.coupling / scale, None if residual.incoming is None else residual.incoming / scale)
    result.__dict__["eigenvalues"] = residual.eigenvalues / scale
    return result


def gauss_newton(coords: Coordinates) -> Tensor:
    """Gauss-Newton part G of the Hessian of one member, which does not depend on the labels.

    Args:
        coords: coordinates of the member.

    Returns:
        `[D, D]`; zero on the incoming coordinates of silent units.
    """
    classes, active, _, inputs, hidden = coords.sizes
    pairs = {size: _pairs(size, coords.inputs) for size in (classes, active, inputs, hidden)}
    incoming = coords.inputs.new_zeros(pairs[active].shape[1], pairs[inputs].shape[1])
    mixed = coords.inputs.new_zeros(active * classes, inputs * hidden)
    outgoing = coords.inputs.new_zeros(pairs[classes].shape[1], pairs[hidden].shape[1])
    width = sum(sum(block.shape) for block in (incoming, mixed, outgoing)) + (active + classes) ** 2
    for rows in _chunks(len(coords.inputs), width):
        a, h = coords.inputs[rows], coords.hidden[rows]
        softmax = _softmax_hessian(coords, rows)
        jacobian = coords.weight * coords.slope[rows, None, :active]  # [n, C-1, K]
        half = softmax @ jacobian
        full = jacobian.transpose(1, 2) @ half
        incoming.addmm_(_upper(full, pairs[active]).T, _products(a))
        mixed.addmm_(half.transpose(1, 2).flatten(1).T, (a.unsqueeze(2) * h.unsqueeze(1)).flatten(1))
        outgoing.addmm_(_upper(softmax, pairs[classes]).T, _products(h))

    matrix = coords.inputs.new_zeros(coords.dimension, coords.dimension)
    incoming_part, outgoing_part = slice(0, active * inputs), slice(coords.dimension - classes * hidden, None)
    _fill(matrix[incoming_part, incoming_part], incoming, active, inputs)
    _fill(matrix[outgoing_part, outgoing_part], outgoing, classes, hidden)
    mixed = mixed.view(active, classes, inputs, hidden).transpose(1, 2).reshape(active * inputs, classes * hidden)
    matrix[incoming_part, outgoing_part] = mixed
    matrix[outgoing_part, incoming_part] = mixed.T
    return matrix.div_(len(coords.inputs))


def residual_part(coords: Coordinates, labels: Tensor) -> Residual:
    """Residual part R of the Hessian of one member.

    Args:
        coords: coordinates of the member.
        labels: `[N]`.

    Returns:
        The blocks of R.
    """
    classes, active, silent, inputs, _ = coords.sizes
    units, examples = active + silent, len(coords.inputs)
    residual = coords.residual(labels)
    coupling = coords.inputs.new_zeros(units * classes, inputs)
    pairs = _pairs(inputs, coords.inputs)
    incoming = None if coords.second_derivative is None else coords.inputs.new_zeros(units, pairs.shape[1])
    for rows in _chunks(examples, units * classes + inputs + pairs.shape[1]):
        a = coords.inputs[rows]
        coupling.addmm_((coords.slope[rows].unsqueeze(2) * residual[rows].unsqueeze(1)).flatten(1).T, a)
        if incoming is not None and coords.second_derivative is not None:
            pull = coords.second_derivative[rows, :active] * (residual[rows] @ coords.weight)
            incoming[:active].addmm_(pull.T, _products(a))
    if incoming is not None:
        incoming = incoming.div_(examples)[:, _pair_index(pairs, inputs)].unflatten(1, (inputs, inputs))
    return Residual(coupling.div_(examples).view(units, classes, inputs), incoming)


def add_residual(matrix: Tensor, coords: Coordinates, residual: Residual) -> Tensor:
    """Adds R to G in place.

    Args:
        matrix: `[D, D]`, the Gauss-Newton part; overwritten.
        coords: coordinates of the member.
        residual: of the member.

    Returns:
        The same `[D, D]`, now the Hessian.
    """
    classes, active, silent, inputs, hidden = coords.sizes
    size, outgoing = active * inputs, coords.dimension - classes * hidden
    blocks = [(0, active, residual.coupling[:active].transpose(1, 2))]  # first row, end of units, [units, rows, C-1]
    if silent:
        # In the basis that the coupling itself spans, of which only the triangular factor is needed.
        triangle = torch.linalg.qr(residual.coupling[active:].transpose(1, 2), mode="r").R
        blocks.append((size, active + silent, triangle))
    for start, end, block in blocks:
        units, rows, _ = block.shape
        part = slice(start, start + units * rows)
        above = matrix[part, outgoing:].view(units, rows, classes, hidden)
        below = matrix[outgoing:, part].view(classes, hidden, units, rows).permute(2, 3, 0, 1)
        for view in (above, below):
            view[..., end - units : end].diagonal(dim1=0, dim2=3).add_(block.permute(1, 2, 0))
    if residual.incoming is not None:
        view = matrix[:size, :size].unflatten(0, (active, inputs)).unflatten(2, (active, inputs))
        view.diagonal(dim1=0, dim2=2).add_(residual.incoming[:active].permute(1, 2, 0))
    return matrix


def _softmax_hessian(coords: Coordinates, rows: slice) -> Tensor:
    """S = diag(p) - p p' of some examples in the rotated classes, `[n, C-1, C-1]`, without cancellation."""
    probability, others = coords.state.probability[0, rows], coords.state.others[0, rows]
    matrix = -probability.unsqueeze(2) * probability.unsqueeze(1)
    matrix.diagonal(dim1=1, dim2=2).copy_(probability * others)
    return coords.basis.T @ matrix @ coords.basis


def gradient(coords: Coordinates, labels: Tensor, residual: Residual) -> Tensor:
    """Gradient of the mean cross-entropy of one member.

    Args:
        coords: coordinates of the member.
        labels: `[N]`.
        residual: of the member.

    Returns:
        `[D]`; zero on the incoming coordinates of silent units, which no output feels.
    """
    _, active, silent, _, _ = coords.sizes
    incoming = torch.einsum("ck,kci->ki", coords.weight, residual.coupling[:active])
    outgoing = coords.residual(labels).T @ coords.hidden / len(coords.hidden)
    return torch.cat((incoming.flatten(), coords.hidden.new_zeros(silent * coords.silent_rank), outgoing.flatten()))


def tail_hessian(tail: Tail) -> tuple[Tensor, ...]:
    """Hessian of every member, each in its own coordinates without null directions.

    The nonzero eigenvalues are those of the full block of size ``tail.block_size``; the eigenvalues left out are zero.

    Args:
        tail: of `M` members.

    Returns:
        `M` symmetric matrices `[D, D]`, fp64; D differs between members.
    """
    matrices = []
    for index in range(tail.num_members):
        member = tail.member(index)
        coords = coordinates(member)
        matrices.append(add_residual(gauss_newton(coords), coords, residual_part(coords, member.labels[0])))
    return tuple(matrices)


def _chunks(examples: int, width: int) -> list[slice]:
    step = max(1, CHUNK_BYTES // (8 * width))
    return [slice(start, start + step) for start in range(0, examples, step)]


def _pairs(size: int, like: Tensor) -> Tensor:
    """Index pairs i <= j, `[2, size (size+1) / 2]`."""
    return torch.triu_indices(size, size, device=like.device)


def _pair_index(pairs: Tensor, size: int) -> Tensor:
    """Where each (i, j) of a square lies among the pairs, `[size * size]`."""
    index = pairs.new_zeros(size, size)
    index[pairs[0], pairs[1]] = torch.arange(pairs.shape[1], device=pairs.device)
    return torch.maximum(index, index.T).flatten()


def _upper(matrices: Tensor, pairs: Tensor) -> Tensor:
    return matrices.flatten(1)[:, pairs[0] * matrices.shape[2] + pairs[1]]


def _products(rows: Tensor) -> Tensor:
    """Products of pairs of a row's values, `[n, size (size+1) / 2]`: of one factor after the other, in place."""
    size = rows.shape[1]
    products = rows.new_empty(len(rows), size * (size + 1) // 2)
    for i, part in enumerate(products.split(list(range(size, 0, -1)), dim=1)):
        torch.mul(rows[:, i : i + 1], rows[:, i:], out=part)
    return products


def _fill(part: Tensor, block: Tensor, outer: int, inner: int) -> None:
    """Writes the block of pairs x pairs into a symmetric part of the Hessian ordered (outer, inner)."""
    block = block[:, _pair_index(_pairs(inner, block), inner)]
    places = _pair_index(_pairs(outer, block), outer).view(outer, outer)
    view = part.unflatten(0, (outer, inner)).unflatten(2, (outer, inner))
    for k in range(outer):  # what is gathered for one stays in cache until it is written
        view[k].copy_(block[places[k]].view(outer, inner, inner).transpose(0, 1))
