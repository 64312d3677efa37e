"""Calls from Python of what only kernels call."""

from collections.abc import Callable

import numba


def from_python(function: Callable) -> Callable:
    """A kernel that does nothing else than call a function: by itself that has no entry for Python."""

    @numba.njit
    def call(*arguments):
        return function(*arguments)

    return call
