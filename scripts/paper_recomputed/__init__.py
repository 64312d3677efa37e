"""Recomputes what docs/paper.md rests on, with pandas and scipy alone."""
