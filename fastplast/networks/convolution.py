"""Convolutions that are fast for many members at once."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """A convolution, on a GPU as products of matrices.

    Of all members at once, ``torch.func.vmap`` makes a convolution with a group for each, for which cuDNN has no fast
    kernel; products are one batched call.

    Args:
        x: `[B, I, height, width]`.
        weight: `[O, I, k, k]`.
        bias: `[O]`.
        stride: in both directions.
        padding: on all sides.

    Returns:
        `[B, O, height, width]`, fewer of the last two.
    """
    if x.device.type == "cuda":
        return convolve_by_product(x, weight, bias, stride, padding)
    return functional.conv2d(x, weight, bias, stride=stride, padding=padding)


def convolve_by_product(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """As ``convolve``, on any device: one product of all patches, a row each, with the weights of all outputs."""
    kernel = weight.shape[-1]
    height, width = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
    patches = functional.unfold(x, kernel, padding=padding, stride=stride).transpose(1, 2)
    out = functional.linear(patches.flatten(0, 1), weight.flatten(1), bias)
    return out.view(len(x), height, width, -1).permute(0, 3, 1, 2)
