"""The training step of many multilayer perceptrons at once: `reference` defines it, `cpu` does it on CPU cores."""

from fastplast_kernels.mlp_step.layers import DenseLayer

__all__ = ["DenseLayer"]
