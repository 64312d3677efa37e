"""The training step of many networks at once: `reference` defines it, `cpu` and `gpu` do it."""

from fastplast_kernels.train_step.layers import ConvLayer, DenseLayer, Layer

__all__ = ["ConvLayer", "DenseLayer", "Layer"]
