"""Figures of runs, drawn from their files only, and of comparisons."""

from fastplast.drawing.runs import plot
from fastplast.srank_validation.figure import plot_crossover, plot_validation

__all__ = ["plot", "plot_crossover", "plot_validation"]
