"""Certified stable ranks held against exact ones."""
