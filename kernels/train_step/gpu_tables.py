"""Tables of the layers of a network for the kernels of `gpu`, and where a member's values of a minibatch lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fastplast_kernels.constants import CODES
from fastplast_kernels.train_step.layers import DenseLayer, widening
from torch import Tensor

Layer = Any  # a dense layer or a convolution: what both have is read here
ALIGNMENT = 16  # floats: what a layer has in a row of values starts at multiples


@dataclass(frozen=True)
class Convolutions:
    """The first layers of a network that are no dense layers.

    Attributes:
        geometry: of each, a row of the table in ``train_step.gpu_conv`` but for its last column.
        tile: outputs and inputs of a program that updates one of them.
        pooled: whether any of them is.
        launches: from a step to what it launches before all others, and before the update of the dense layers.
    """

    geometry: tuple[tuple[int, ...], ...]
    tile: tuple[int, int]
    pooled: bool
    launches: Callable[[Any], tuple[list[Any], list[Any]]]


@dataclass(frozen=True)
class Tables:
    """Of the layers.

    Attributes:
        table: `[L, 6]` int64, see `gpu_parts`.
        factors: `[L, 2]` float32, see `gpu_parts`.
        extras: `[L + convolutions, 7]` int64, see `gpu_dense`: first what dense layers have to do with.
        width: floats of a member's values of a minibatch.
    """

    table: Tensor
    factors: Tensor
    extras: Tensor
    width: int


def tables(layers: Sequence[Layer], batch: int) -> Tables:
    """The tables of a network, on the CPU.

    Args:
        layers: input to output.
        batch: B.

    Returns:
        The tables.

    Raises:
        ValueError: if an activation is unknown.
    """
    table, factors, extras, convolutions, end = [], [], [], [], 0

    def place(count: int) -> int:
        nonlocal end
        start, end = end, -(-(end + count) // ALIGNMENT) * ALIGNMENT
        return start

    for layer in layers:
        if layer.activation not in CODES:
            raise ValueError(f"activation is unknown: got {layer.activation!r}. Choose one of {', '.join(CODES)}.")
        dense, code = isinstance(layer, DenseLayer), CODES[layer.activation]
        values = place(batch * layer.outputs * layer.pixels * widening(layer.activation))
        dropped = _dropout(layer.dropout, layer.number)
        at = (place(batch * layer.outputs), place(2 * batch)) if is_normed(layer) else (-1, -1)
        norm = (layer.norm_scale, layer.norm_shift)
        extras.append((*at, *norm, *dropped) if dense else (-1, -1, -1, -1, *_dropout(0.0, 0)))
        if not dense:
            own = place(batch * layer.outputs * layer.positions) if layer.modified else values
            moments = place(2 * batch * (1 + layer.outputs)) if layer.normed else -1
            convolutions.append((own, moments, *norm, *dropped))
            code = CODES["identity"] if layer.modified else code  # of what the layer above and the product deal with
        table.append((layer.inputs, layer.outputs, layer.weight, layer.bias, values, code))
        factors.append((layer.slope, layer.pull))
    extras = torch.tensor(extras + convolutions)
    return Tables(torch.tensor(table), torch.tensor(factors, dtype=torch.float32), extras, end)


def _dropout(rate: float, number: int) -> tuple[int, int, int]:
    """The last columns of the table of modifications."""
    kept = torch.tensor(1.0 / (1.0 - rate), dtype=torch.float32).view(torch.int32)
    return int(rate * 2.0**32), number, int(kept)


def is_normed(layer: Layer) -> bool:
    """Whether a layer is."""
    return isinstance(layer, DenseLayer) and layer.normed


def switches(layers: Sequence[Layer]) -> dict[str, bool]:
    """Constexprs of kernels: what modifies any layer; what is not there costs nothing."""
    dense = [layer for layer in layers if isinstance(layer, DenseLayer)]
    return {
        "NORM": any(is_normed(layer) for layer in layers),
        "CRELU": any(layer.activation == "crelu" for layer in dense),
        "DROPOUT": any(layer.dropout > 0 for layer in dense),
    }
