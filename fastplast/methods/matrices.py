"""Methods on whole weight matrices: each layer's weights as a matrix, kernels flattened for each output."""

from __future__ import annotations

from torch import Tensor

from fastplast.networks.layout import Layout, Slot


def weight_slots(layout: Layout, with_head: bool) -> list[Slot]:
    """Where weight matrices lie, from the first layer.

    Args:
        layout: of a row.
        with_head: whether the last is among them.

    Returns:
        The slots.
    """
    found = [slot for slot in layout.slots if slot.is_weight]
    return found if with_head else found[:-1]


def as_matrix(row: Tensor, slot: Slot) -> Tensor:
    """A member's weights as a matrix.

    Args:
        row: `[P]`.
        slot: of the weights.

    Returns:
        `[O, I]`, a view.
    """
    return row[slot.slice].view(slot.shape[0], -1)
