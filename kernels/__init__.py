"""Kernels of fastplast: for each operation a plain definition, and the fast versions that are measured against it."""
