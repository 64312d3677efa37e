"""Dropout: the masks of a member, from a counter-based generator."""

from fastplast_kernels.dropout.reference import dropout_mask, philox

__all__ = ["dropout_mask", "philox"]
