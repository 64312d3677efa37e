"""Sections of ``scripts/same_results.py``: each fills a dictionary of names to digests, in an empty directory."""
