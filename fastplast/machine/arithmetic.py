"""Arithmetic of libraries where truth is computed: float32 in full, by the same algorithm every time."""

from __future__ import annotations

import torch


def use_full_float32() -> None:
    """Turns off in this process what gives products of float32 fewer bits, or other bits in another run, on a GPU.

    cuDNN otherwise convolves in TF32, with a mantissa of 10 bits, and may choose algorithms that add in any order.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
