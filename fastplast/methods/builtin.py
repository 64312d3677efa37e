"""Methods whose anchor is fixed in place."""

from __future__ import annotations

import torch

from fastplast.methods.method import Method

none = Method(anchor=None, ranked=False, summary="plain training", reference="")
l2 = Method(
    anchor=lambda init, layout: torch.zeros_like(init),
    ranked=False,
    summary="weights are pulled to zero",
    reference="Krogh, Hertz 1991",
)
regenerative = Method(
    anchor=lambda init, layout: init.clone(),
    ranked=False,
    summary="each weight is pulled to its initial value (L2 init)",
    reference="Kumar, Marklund, Van Roy 2023, arXiv 2308.11958",
)
