"""A report of runs: one HTML file that needs no network."""

from fastplast.reports.page import report

__all__ = ["report"]
