"""The optimiser step of many members at once."""

from fastplast_kernels.update.reference import Hyperparameters, pull_gradient, update

__all__ = ["Hyperparameters", "pull_gradient", "update"]
