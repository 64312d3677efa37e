"""The figures of the paper: what each needs is trained once, and drawn."""

from fastplast.paper.costs import listing
from fastplast.paper.make import describe, draw, plans
from fastplast.paper.registry import FIGURES, Figure, figure_of
from fastplast.paper.studies import SCALES, STUDIES, Study, Use

__all__ = [
    "FIGURES",
    "SCALES",
    "STUDIES",
    "Figure",
    "Study",
    "Use",
    "describe",
    "draw",
    "figure_of",
    "listing",
    "plans",
]
