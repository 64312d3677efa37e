"""The arena: every parameter of a member in one row of a flat tensor, and the layout that names its parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

ALIGNMENT = 16  # floats: 64 bytes, a cache line on a CPU and four 16-byte loads on a GPU


@dataclass(frozen=True)
class Slot:
    """One parameter tensor inside the arena.

    Attributes:
        name: as in a ``state_dict``, for example ``fc1.weight``.
        offset: index of its first element in a member's row; a multiple of ``ALIGNMENT``.
        shape: its shape for one member.
        is_weight: True for weight matrices and kernels, which regularisers pull; False for biases.
    """

    name: str
    offset: int
    shape: tuple[int, ...]
    is_weight: bool

    @property
    def count(self) -> int:
        """Number of parameters."""
        return prod(self.shape)

    @property
    def slice(self) -> slice:
        """Where the parameters lie in a member's row."""
        return slice(self.offset, self.offset + self.count)


@dataclass(frozen=True)
class Layout:
    """Names, offsets and shapes of all parameters of a member.

    Attributes:
        slots: in order of offset.
        size: `P`, the length of a row, padding included. Padding is always zero.
    """

    slots: tuple[Slot, ...]
    size: int

    @classmethod
    def pack(cls, shapes: dict[str, tuple[int, ...]], weights: set[str]) -> Layout:
        """Lays tensors out one after another, each at a multiple of ``ALIGNMENT``.

        Args:
            shapes: name to shape, in order.
            weights: the names that are weight matrices.

        Returns:
            The layout.
        """
        slots, offset = [], 0
        for name, shape in shapes.items():
            slot = Slot(name, offset, tuple(shape), name in weights)
            slots.append(slot)
            offset = -(-(offset + slot.count) // ALIGNMENT) * ALIGNMENT
        return cls(tuple(slots), offset)

    @property
    def count(self) -> int:
        """Number of true parameters of a member, without padding."""
        return sum(slot.count for slot in self.slots)

    def __getitem__(self, name: str) -> Slot:
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(f"parameter is not in the layout: got {name!r}. Known: {', '.join(s.name for s in self.slots)}.")

    @cached_property
    def split_sizes(self) -> tuple[list[int], list[int]]:
        """Sizes that cut a row into parameters and padding, and which of the pieces are parameters."""
        sizes, kept, end = [], [], 0
        for slot in self.slots:
            if slot.offset > end:
                sizes.append(slot.offset - end)
            kept.append(len(sizes))
            sizes.append(slot.count)
            end = slot.offset + slot.count
        if self.size > end:
            sizes.append(self.size - end)
        return sizes, kept

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of a flat tensor, one per parameter.

        Args:
            flat: `[..., P]`, for example an arena `[M, P]` or the row of one member `[P]`.

        Returns:
            Name to view `[..., *shape]`. A split, so that its backward pass is one concatenation.
        """
        sizes, kept = self.split_sizes
        pieces = flat.split(sizes, dim=-1)
        return {s.name: pieces[k].view(flat.shape[:-1] + s.shape) for s, k in zip(self.slots, kept)}

    def row(self, parts: dict[str, Tensor]) -> Tensor:
        """The flat tensor whose ``views`` have the values of these.

        Args:
            parts: name to `[..., *shape]`, of all parameters.

        Returns:
            `[..., P]`; zero in the padding.
        """
        sizes, kept = self.split_sizes
        first = self.slots[0]
        before = parts[first.name].shape[: parts[first.name].ndim - len(first.shape)]
        pieces = [parts[first.name].new_zeros(*before, size) for size in sizes]
        for slot, k in zip(self.slots, kept):
            pieces[k] = parts[slot.name].reshape(*before, slot.count)
        return torch.cat(pieces, -1)

    def pull(self, reduction: str) -> Tensor:
        """The factor c of the pull-to-target rule for every element of a row.

        Args:
            reduction: ``mean`` (c = 1/d for a weight matrix of d elements, the paper's equation) or ``sum`` (c = 1).

        Returns:
            `[P]` float32; zero on biases and padding.
        """
        factor = torch.zeros(self.size, dtype=torch.float32)
        for slot in self.slots:
            if slot.is_weight:
                factor[slot.slice] = 1.0 / slot.count if reduction == "mean" else 1.0
        return factor
