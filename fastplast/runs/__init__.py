"""Runs on disk: files, checkpoints, tables, readers and the one writer."""
