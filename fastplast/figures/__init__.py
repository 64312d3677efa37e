"""The figures of the paper: what each needs is trained once, and drawn."""

from fastplast.figures.costs import listing
from fastplast.figures.make import describe, draw, plans
from fastplast.figures.registry import FIGURES, Figure, figure_of
from fastplast.figures.studies import SCALES, STUDIES, Study, Use

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
