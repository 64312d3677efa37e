"""The figures of the paper: what each needs is trained once, and drawn."""

from fastplast.paper.costs import list_figures
from fastplast.paper.make import draw_figure
from fastplast.paper.plans import plan_missing, preview
from fastplast.paper.registry import FIGURES, Figure, adapt, figure_of
from fastplast.paper.studies import SCALES, STUDIES, Study, Use

__all__ = [
    "FIGURES",
    "SCALES",
    "STUDIES",
    "Figure",
    "Study",
    "Use",
    "adapt",
    "draw_figure",
    "figure_of",
    "list_figures",
    "plan_missing",
    "preview",
]
