"""The optimiser step of many members at once."""

from fastplast_kernels.update.reference import pull_gradient, update

__all__ = ["pull_gradient", "update"]
