"""One task of a problem for all members of a group, as index tables into one dataset in memory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Task:
    """A task for `M` members.

    Input i of member m's example n is ``images[rows[m, n], pixels[m, i]] * scale[pixels[m, i]] + shift[pixels[m, i]]``.

    Attributes:
        index: number of the task, from 0.
        images: `[R, I]` uint8 or float32, channels first and flattened; one copy for all members.
        rows: `[M, N]` int64, the image of each example.
        labels: `[M, N]` int64 in 0..C-1.
        pixels: `[M, I]` int64 permutations, or None where inputs are not permuted.
        scale: `[I]` float32.
        shift: `[I]` float32.
        shape: (channels, height, width) of an image.
        num_classes: C.
    """

    index: int
    images: Tensor
    rows: Tensor
    labels: Tensor
    pixels: Tensor | None
    scale: Tensor
    shift: Tensor
    shape: tuple[int, int, int]
    num_classes: int

    @property
    def num_members(self) -> int:
        """M."""
        return self.rows.shape[0]

    @property
    def num_examples(self) -> int:
        """N."""
        return self.rows.shape[1]

    def inputs(self, positions: Tensor) -> Tensor:
        """Inputs of some examples.

        Args:
            positions: `[M, B]` int64, positions among each member's examples.

        Returns:
            `[M, B, I]` float32.
        """
        x = self.images[self.rows.gather(1, positions)].float()
        x = x * self.scale + self.shift
        if self.pixels is None:
            return x
        return x.gather(2, self.pixels.unsqueeze(1).expand(-1, positions.shape[1], -1))
