"""A run in TensorBoard or Weights & Biases while it trains."""

from fastplast.tracking.watch import Views, check, watch

__all__ = ["Views", "check", "watch"]
