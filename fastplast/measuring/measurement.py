"""What a measurement of a group gives: metrics of every member, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Column = Sequence[float | int | bool | str | None]


@dataclass(frozen=True)
class Measurement:
    """What a measurement of a group finds.

    Attributes:
        columns: metric to `[M]` values; None where a member has none.
        eigenvalues: of each member's Hessian, or None where it was not measured.
        hessian_seconds: that each member's Hessian took, or None where it was not measured.
    """

    columns: dict[str, Column]
    eigenvalues: list[Tensor] | None
    hessian_seconds: list[float] | None

    def expected(self, before: Tensor) -> Tensor:
        """Stable ranks to expect at the next measurement: those found here, or before where there is none.

        Args:
            before: `[M]` int64.

        Returns:
            `[M]` int64.
        """
        found = self.columns.get("hessian_srank", [None] * len(before))
        return torch.tensor([old if new is None else int(new) for new, old in zip(found, before.tolist())])
