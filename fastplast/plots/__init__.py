"""Figures of runs, drawn from their files only, and of comparisons."""

from fastplast.plots.curves import plot
from fastplast.plots.validation import plot_crossover, plot_validation

__all__ = ["plot", "plot_crossover", "plot_validation"]
