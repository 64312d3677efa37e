"""Buffers of a module: constants go with its parameters; what training changes is none of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Constants:
    """The buffers of a module, where and as precise as what it computes with.

    Args:
        module: whose buffers do not change.
    """

    def __init__(self, module: nn.Module) -> None:
        self._buffers = dict(module.named_buffers())
        self._moved: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def like(self, x: Tensor) -> dict[str, Tensor]:
        """By name, on the device of `x`, floating point numbers in its dtype; moved and converted once."""
        if not self._buffers:
            return {}
        key = (x.device, x.dtype)
        if key not in self._moved:
            self._moved[key] = {
                name: buffer.to(x.device, x.dtype if buffer.is_floating_point() else None)
                for name, buffer in self._buffers.items()
            }
        return self._moved[key]


@torch.no_grad()
def find_changing(module: nn.Module, x: Tensor) -> list[str]:
    """Buffers that a pass in training changes, as running statistics are and a constant is not.

    Args:
        module: its buffers may be other ones afterwards.
        x: `[B, ...]` inputs.

    Returns:
        Their names.
    """
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    if not before:
        return []
    module.train()(x)
    after = dict(module.named_buffers())
    return [n for n, old in before.items() if n not in after or not torch.equal(old, after[n].to(old.dtype))]
