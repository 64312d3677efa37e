"""The Wasserstein regulariser: a loss term for any module, its definition in `reference`, and the kernels behind it."""

from fastplast_kernels.wasserstein.reference import rank
from fastplast_kernels.wasserstein.regulariser import penalty, sort_init, target, wasserstein_penalty

__all__ = ["penalty", "rank", "sort_init", "target", "wasserstein_penalty"]
