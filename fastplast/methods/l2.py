"""L2 regularisation: weights are pulled to zero."""

import torch

from fastplast.methods.pull import Method

l2 = Method(
    anchor=lambda init, layout: torch.zeros_like(init),
    ranked=False,
    summary="weights are pulled to zero",
    reference="Krogh, Hertz 1991",
)
