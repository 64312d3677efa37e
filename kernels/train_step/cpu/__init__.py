"""The training step on the cores of a CPU, in Numba."""
