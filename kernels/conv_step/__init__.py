"""The training step of many convolutional networks at once: `reference` defines it, `cpu` does it on CPU cores."""

from fastplast_kernels.conv_step.layers import ConvLayer

__all__ = ["ConvLayer"]
