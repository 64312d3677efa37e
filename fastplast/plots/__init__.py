"""Figures of runs, drawn from their files only."""

from fastplast.plots.curves import plot

__all__ = ["plot"]
