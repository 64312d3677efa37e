"""How kernels are compiled, and where the machine code is kept between processes.

Numba notices a change of the file of a cached function, but not of the functions it calls in other files. So the cache
lies in a folder named by a hash of all sources that Numba compiles and of the versions of the compiler: any change, and
the code is compiled anew. Folders that were not used for a month are removed. Nothing is written into the installed
package.

Numba names the machine code of a function by its qualified name and a number that counts functions of the process. Two
closures of one name, compiled in two processes, may so have one symbol, and a third process that loads both would call
the first for either. Names of functions that only kernels call therefore end in a word of the process that made them,
and in a number of their own, which tells apart what processes forked from it compile.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import llvmlite
import numba
from llvmlite import binding

_PACKAGE, _ROOT = "fastplast_kernels", Path(__file__).resolve().parent
_KEPT_SECONDS = 30 * 24 * 3600  # how long a folder stays that nobody uses
_PROCESS, _NUMBERS = secrets.token_hex(8), itertools.count()
_FLAGS = {"nogil": True, "error_model": "numpy", "boundscheck": False, "no_cfunc_wrapper": True}
# Parts of kernels have no entry for Python, which ends if it calls one; compiling one takes a tenth of the time.
_PART = _FLAGS | {"no_cpython_wrapper": True}


def sources() -> list[Path]:
    """The files that machine code depends on: those that use Numba, and all of this package that they import.

    Returns:
        Their paths in order.
    """
    texts = {path: path.read_bytes() for path in _ROOT.rglob("*.py")}
    mentions = [path for path, text in texts.items() if b"compilation" in text or b"numba" in text]
    found: set[Path] = set()
    new = {path for path in mentions if {f"{_PACKAGE}.compilation", "numba"} & set(_imports(texts[path]))}
    while new:
        found |= new
        names = {name for path in new for name in _imports(texts[path])}
        new = {path for name in names for path in _files(name) if path in texts} - found
    return sorted(found)


def _imports(text: bytes) -> Iterator[str]:
    """Names of modules that a source imports, and names from modules, which may be modules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(module: str) -> tuple[Path, Path]:
    """Where a module of this package may be."""
    package, *names = module.split(".")
    path = _ROOT.joinpath(*names) if package == _PACKAGE else _ROOT / "none"
    return path.with_suffix(".py"), path / "__init__.py"


@cache
def cache_directory() -> str:
    """Where machine code is kept: below ``NUMBA_CACHE_DIR``, the user's cache directory or a temporary one.

    Returns:
        The path, which exists and can be written to; empty if there is no such place.
    """
    digest = hashlib.sha256()
    for part in (sys.version, numba.__version__, llvmlite.__version__, binding.get_host_cpu_name()):
        digest.update(part.encode() + b"\0")
    for path in sources():
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    places = [
        numba.config.CACHE_DIR,
        _user_cache(),
        _private(os.path.join(tempfile.gettempdir(), f"fastplast-{user}")),
    ]
    for place in filter(None, places):
        path = os.path.join(place, f"kernels-{digest.hexdigest()[:20]}")
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                os.utime(path)
        except OSError:
            continue
        _remove_unused(Path(place))
        return path
    return ""


def _private(place: str) -> str:
    """A place in a directory that all users share; empty if somebody else made it or may write into it.

    Numba's index of machine code is a pickle, which runs what whoever wrote it wants.
    """
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        found = os.lstat(place)
    except OSError:
        return ""
    is_ours = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    return place if is_ours and stat.S_ISDIR(found.st_mode) else ""


def _remove_unused(place: Path) -> None:
    """Removes folders of machine code whose last use is long ago."""
    for folder in place.glob("kernels-*"):
        try:
            unused = time.time() - folder.stat().st_mtime > _KEPT_SECONDS
        except OSError:  # another process removes it
            continue
        if unused and re.fullmatch("kernels-[0-9a-f]{20}", folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def is_kept(module: str, kernel: str) -> bool:
    """Whether there is machine code of a kernel from an earlier call, so that a call need not compile.

    Args:
        module: of this package, such as ``train_step.cpu.step``.
        kernel: name of a function there that is `compiled`.

    Returns:
        Whether there is.
    """
    *_, folder, name = module.split(".")
    return any(Path(cache_directory() or os.devnull).glob(f"{folder}_*/{name}.{kernel}-*.nbi"))  # as Numba names it


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
    return numba.njit(**_PART)(_uniquely_named(function))


def merged(function: Callable) -> Callable:
    """Decorator of a function that only kernels call, and whose source replaces the call.

    A called function is optimised once more with each function above it; this one never by itself.
    """
    return numba.njit(inline="always", **_PART)(_uniquely_named(function))


def inlined(function: Callable) -> Callable:
    """Decorator of a function that only kernels call, and whose machine code replaces the call."""
    return numba.njit(forceinline=True, **_PART)(_uniquely_named(function))


def _uniquely_named(function: Callable) -> Callable:
    function.__qualname__ += f".{_PROCESS}_{os.getpid()}_{next(_NUMBERS)}"
    return function


def _user_cache() -> str:
    """The place of the user's caches of fastplast; without the package platformdirs that on Linux."""
    try:
        import platformdirs
    except ImportError:
        return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fastplast")
    return platformdirs.user_cache_dir("fastplast", appauthor=False)
