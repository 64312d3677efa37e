"""One task of a problem for all members of a group, as index tables into one dataset in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Task:
    """A task for `M` members.

    Input i of member m's example n is ``images[rows[m, n], pixels[m, i]] * scale[pixels[m, i]] + shift[pixels[m, i]]``.

    Attributes:
        index: number of the task, from 0.
        images: `[R, I]` uint8 or float32, channels first and flattened; one copy for all members.
        rows: `[M, N]` int64, the image of each example.
        labels: `[M, N]` int64 in 0..C-1; of the loss ``mse`` numbers, `[M, N]` of one output or `[M, N, C]`.
        pixels: `[M, I]` int64 permutations, or None where inputs are not permuted.
        scale: `[I]` float32.
        shift: `[I]` float32.
        shape: (channels, height, width) of an image.
        num_classes: C, the outputs of a network.
        loss: name of what is minimised.
        test_rows: `[M, T]` int64, examples that are never trained on; None where there are none.
        test_labels: `[M, T]` int64, their labels.
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
    loss: str = "cross_entropy"
    test_rows: Tensor | None = None
    test_labels: Tensor | None = None

    @property
    def test(self) -> Task | None:
        """The same task with its test examples, or None where it has none."""
        if self.test_rows is None or self.test_labels is None:
            return None
        return replace(self, rows=self.test_rows, labels=self.test_labels, test_rows=None, test_labels=None)

    @property
    def num_members(self) -> int:
        """M."""
        return self.rows.shape[0]

    @property
    def num_examples(self) -> int:
        """N."""
        return self.rows.shape[1]

    def labels_at(self, positions: Tensor) -> Tensor:
        """Labels of some examples.

        Args:
            positions: `[M, B]` int64, positions among each member's examples.

        Returns:
            `[M, B]`, or `[M, B, C]`.
        """
        if self.labels.ndim == 2:
            return self.labels.gather(1, positions)
        return self.labels.gather(1, positions[..., None].expand(-1, -1, self.labels.shape[2]))

    def inputs(self, positions: Tensor) -> Tensor:
        """Inputs of some examples.

        Args:
            positions: `[M, B]` int64, positions among each member's examples.

        Returns:
            `[M, B, I]` float32.
        """
        x = self.images[self.rows.gather(1, positions)].float()  # a copy, of float32 images too
        x = x.mul_(self.scale).add_(self.shift)
        if self.pixels is None:
            return x
        return x.gather(2, self.pixels.unsqueeze(1).expand(-1, positions.shape[1], -1))
