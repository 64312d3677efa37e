"""Figures of runs, drawn from their files only."""

from fastplast.drawing.runs import plot, write_plot

__all__ = ["plot", "write_plot"]
