"""Anchors of methods of the user's own, checked before kernels read them without looking at bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.config import METHOD_NAMES
from fastplast.methods.method import Method
from fastplast.networks.layout import Layout


def make_anchor(name: str, method: Method, init: Tensor, layout: Layout) -> Tensor:
    """The anchor of a method, checked if it is one of the user's own.

    Args:
        name: of the method.
        method: that has an anchor.
        init: `[m, P]` initial parameters.
        layout: of a row.

    Returns:
        `[m, P]` float32, contiguous, on the device of `init`.

    Raises:
        ValueError: if the anchor is no such tensor, is not finite, changes `init`, or is to be dealt out by rank and is
            not sorted.
    """
    assert method.anchor is not None
    if name in METHOD_NAMES:
        return method.anchor(init, layout)
    before = init.clone()
    anchor = method.anchor(init, layout)
    wanted = f"anchor of method {name} must be float32 {list(init.shape)} on {init.device}, as initial parameters are"
    if not isinstance(anchor, Tensor):
        raise ValueError(f"{wanted}: got {type(anchor).__name__}.")
    if (anchor.shape, anchor.dtype, anchor.device) != (init.shape, init.dtype, init.device):
        raise ValueError(f"{wanted}: got {str(anchor.dtype)[6:]} {list(anchor.shape)} on {anchor.device}.")
    if not torch.equal(init, before):
        init.copy_(before)
        raise ValueError(f"anchor of method {name} must leave initial parameters as they are: got others. Clone them.")
    if not bool(anchor.isfinite().all()):
        raise ValueError(f"anchor of method {name} must be finite: got NaN or infinity.")
    if method.ranked:
        for slot in layout.slots:
            if slot.is_weight and bool((anchor[:, slot.slice].diff(dim=1) < 0).any()):
                raise ValueError(f"anchor of ranked method {name} must be sorted: got {slot.name} in another order.")
    return anchor.detach().contiguous()
