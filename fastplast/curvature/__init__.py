"""Curvature of the last layers of many networks at once: exact Hessians and their stable rank."""

from fastplast.curvature.exact import measure, measure_labels
from fastplast.curvature.generic import block_loss, hessian_block, measure_block
from fastplast.curvature.hessian import tail_hessian
from fastplast.curvature.spectrum import Curvature
from fastplast.curvature.srank import matrix_stable_rank, stable_rank
from fastplast.curvature.tail import Tail, tail_gradient, tail_hvp

__all__ = [
    "Curvature",
    "Tail",
    "block_loss",
    "hessian_block",
    "matrix_stable_rank",
    "measure",
    "measure_block",
    "measure_labels",
    "stable_rank",
    "tail_gradient",
    "tail_hessian",
    "tail_hvp",
]
