"""The Wasserstein regulariser of sorted weights: `reference` defines it, `cpu` ranks a row inside the training step."""

from fastplast_kernels.wasserstein.reference import penalty, rank, target

__all__ = ["penalty", "rank", "target"]
