"""What a method against plasticity loss is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from fastplast.networks.layout import Layout


class Method(NamedTuple):
    """A method against plasticity loss.

    Attributes:
        anchor: from initial parameters `[m, P]` and their layout to the anchor `[m, P]`; None for no pull.
        ranked: whether the anchor is dealt out by rank (then each weight matrix of the anchor is sorted).
        summary: one line for ``fastplast list methods``.
        reference: where it comes from.
    """

    anchor: Callable[[Tensor, Layout], Tensor] | None
    ranked: bool
    summary: str
    reference: str
