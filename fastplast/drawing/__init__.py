"""Figures of runs, drawn from their files only."""

from fastplast.drawing.runs import plot

__all__ = ["plot"]
