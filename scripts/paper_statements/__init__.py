"""Decides the statements of the paper from stored results: ``statements.toml`` lists them, ``rules`` says how."""
