"""Tables of the layers of a network for the kernels of `gpu`, and where a member's values of a minibatch lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fastplast_kernels.mlp_step.gpu_dense import EXTRA_COLUMNS
from fastplast_kernels.mlp_step.gpu_parts import CODES
from fastplast_kernels.mlp_step.layers import DenseLayer, widening
from torch import Tensor

Layer = Any  # a dense layer or a convolution: what both have is read here
ALIGNMENT = 16  # floats: what a layer has in a row of values starts at multiples


@dataclass(frozen=True)
class Convolutions:
    """The first layers of a network that are no dense layers.

    Attributes:
        geometry: of each, a row of the table in ``conv_step.gpu`` but for its last column.
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
        outputs: of each convolution, where its outputs lie in a row of values.
        width: floats of a member's values of a minibatch.
    """

    table: Tensor
    factors: Tensor
    extras: Tensor
    outputs: tuple[int, ...]
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
    table, factors, outputs, end = [], [], [], 0
    extras, modified = torch.full((len(layers), EXTRA_COLUMNS), -1), []

    def place(count: int) -> int:
        nonlocal end
        start, end = end, -(-(end + count) // ALIGNMENT) * ALIGNMENT
        return start

    for number, layer in enumerate(layers):
        if layer.activation not in CODES:
            raise ValueError(f"activation is unknown: got {layer.activation!r}. Choose one of {', '.join(CODES)}.")
        dense, code = isinstance(layer, DenseLayer), CODES[layer.activation]
        values = place(batch * layer.outputs * layer.pixels * widening(layer.activation))
        extras[number, 4:] = _dropout(layer if dense else None)
        if dense and layer.normed:
            extras[number, 0], extras[number, 1] = place(batch * layer.outputs), place(2 * batch)
            extras[number, 2], extras[number, 3] = layer.norm_scale, layer.norm_shift
        if not dense:
            outputs.append(place(batch * layer.outputs * layer.positions) if layer.modified else values)
            moments = place(2 * batch * (1 + layer.outputs)) if layer.normed else -1
            modified.append(torch.tensor([outputs[-1], moments, layer.norm_scale, layer.norm_shift, 0, 0, 0]))
            modified[-1][4:] = _dropout(layer)
            code = CODES["identity"] if layer.modified else code  # of what the layer above and the product deal with
        table.append((layer.inputs, layer.outputs, layer.weight, layer.bias, values, code))
        factors.append((layer.slope, layer.pull))
    extras = torch.cat([extras, *(row[None] for row in modified)])
    return Tables(torch.tensor(table), torch.tensor(factors, dtype=torch.float32), extras, tuple(outputs), end)


def _dropout(layer: Layer | None) -> Tensor:
    """The last columns of the table of modifications; None for none."""
    rate, number = (0.0, 0) if layer is None else (layer.dropout, layer.number)
    kept = torch.tensor(1.0 / (1.0 - rate), dtype=torch.float32).view(torch.int32)
    return torch.tensor([int(rate * 2.0**32), number, int(kept)])


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


def bucket_tables(step: Any) -> dict[str, Any]:
    """Arguments of kernels that update, for ranked weights; of any tensor where there are none."""
    names = ("map", "count", "slab", "spill", "spill_bucket", "spill_count")
    buckets = step.buckets
    tables = {f"{name}_ptr": step.ranked if buckets is None else getattr(buckets, name) for name in names}
    rows = step.table if buckets is None else buckets.layers
    return {**tables, "rows_ptr": rows, "member_buckets": 0 if buckets is None else buckets.count.shape[1]}
