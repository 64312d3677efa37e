"""How kernels are compiled, and where the machine code is kept between processes.

Numba notices a change of the file of a cached function, but not of the functions it calls in other files. So the cache
lies in a directory named by a hash of all kernel sources and of the versions of the compiler: any change, and the code
is compiled anew. Nothing is written into the installed package.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import llvmlite
import numba
import platformdirs
from llvmlite import binding

_FLAGS = {"nogil": True, "error_model": "numpy", "boundscheck": False, "no_cfunc_wrapper": True}


@cache
def cache_directory() -> str:
    """Where machine code is kept: below ``NUMBA_CACHE_DIR``, the user's cache directory or a temporary one.

    Returns:
        The path, which exists and can be written to; empty if there is no such place.
    """
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for part in (sys.version, numba.__version__, llvmlite.__version__, binding.get_host_cpu_name()):
        digest.update(part.encode() + b"\0")
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    places = [
        numba.config.CACHE_DIR,
        platformdirs.user_cache_dir("fastplast", appauthor=False),
        os.path.join(tempfile.gettempdir(), f"fastplast-{user}"),
    ]
    for place in filter(None, places):
        path = os.path.join(place, f"kernels-{digest.hexdigest()[:20]}")
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                return path
        except OSError:
            continue
    return ""


def compiled(function: Callable) -> Callable:
    """Decorator of a kernel that Python calls: compiled without the GIL, and kept for the next process."""
    directory = cache_directory()
    if not directory:
        return numba.njit(**_FLAGS)(function)
    # Numba reads its option when the function is decorated; other packages' functions keep their own place.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = directory
    try:
        return numba.njit(cache=True, **_FLAGS)(function)
    finally:
        numba.config.CACHE_DIR = before


def called(function: Callable) -> Callable:
    """Decorator of a function that only kernels call: compiled and kept as a part of them."""
    return numba.njit(**_FLAGS)(function)


def merged(function: Callable) -> Callable:
    """Decorator of a function that only kernels call, and whose source replaces the call.

    A called function is optimised once more with each function above it; this one never by itself.
    """
    return numba.njit(inline="always", **_FLAGS)(function)


def inlined(function: Callable) -> Callable:
    """Decorator of a function that only kernels call, and whose machine code replaces the call."""
    return numba.njit(forceinline=True, **_FLAGS)(function)
