"""Members shared out among threads: each thread takes the next member that nobody has taken.

Threads are PyTorch's, which wait for work by spinning: others beside them would share their cores with them, and start
milliseconds later. Where they cannot be had, threads are Python's. Kernels run without the GIL, so no threading layer
of Numba's is needed, and any number of callers, forks and an uneven number of members are all the same.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

WORTH_A_THREAD = 50_000  # weights of an update or of a rank that take about as long as a thread takes to start
_NOBODY_LEFT = 1 << 60
_IMPORTED_BY = os.getpid()
_IS_X86 = platform.machine() in ("x86_64", "AMD64")
_FLUSH_DENORMALS = 0x8040  # of the x86 register MXCSR: denormal results and operands are zero


@intrinsic
def take(typingctx, counter):
    """Adds 1 to ``counter[0]`` and returns what it was, as one operation among all threads."""

    def codegen(context, builder, sig, args):
        data = context.make_array(counter)(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), codegen


@intrinsic
def flush_denormals(typingctx):
    """Makes this thread treat numbers below 1.2e-38 as zero; returns what ``restore_denormals`` takes.

    The moments of a dead unit's weights decay to such numbers and stay there, and arithmetic on them is slow.
    """

    def codegen(context, builder, sig, args):
        integer = ir.IntType(32)
        if not _IS_X86:
            return integer(0)
        place = builder.alloca(integer)
        _control(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, integer(_FLUSH_DENORMALS)), place)
        _control(builder, "ldmxcsr", place)
        return before

    return types.uint32(), codegen


@intrinsic
def restore_denormals(typingctx, before):
    """Undoes ``flush_denormals``."""

    def codegen(context, builder, sig, args):
        if _IS_X86:
            place = builder.alloca(ir.IntType(32))
            builder.store(args[0], place)
            _control(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.uint32), codegen


def _control(builder, instruction: str, place) -> None:
    byte = builder.bitcast(place, ir.IntType(8).as_pointer())
    function_type = ir.FunctionType(ir.VoidType(), [byte.type])
    builder.call(cgutils.get_or_insert_function(builder.module, function_type, f"llvm.x86.sse.{instruction}"), [byte])


@cache
def _torch_team() -> Callable[[Callable[[int], None], int], None] | None:
    """Calls a function with 0 to a number below the second argument, each in an OpenMP thread of PyTorch's.

    None where PyTorch's OpenMP has no such call, as on macOS and Windows.
    """
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libtorch_cpu.so"))
        parallel, number = library.GOMP_parallel, library.omp_get_thread_num
    except (OSError, AttributeError):
        return None
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    parallel.argtypes, parallel.restype = [kind, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None

    def team(function: Callable[[int], None], threads: int) -> None:
        def called(_: object) -> None:
            if (thread := number()) < threads:
                function(thread)

        # A team of another size than PyTorch's would end threads, or start them, at each call.
        parallel(kind(called), None, max(threads, torch.get_num_threads()), 0)

    return team


def _python_team(function: Callable[[int], None], threads: int) -> None:
    """As PyTorch's team, in threads of Python's."""
    others = [threading.Thread(target=function, args=(i,), daemon=True) for i in range(1, threads)]
    for thread in others:
        thread.start()
    function(0)
    for thread in others:
        thread.join()


def run(work: Callable[[np.ndarray, int], None], members: int, threads: int) -> None:
    """Calls ``work(counter, thread)`` in each thread at once; each takes members until all are taken.

    Args:
        work: gets the shared counter, int64 `[1]`, and its thread's number.
        members: M.
        threads: at most this many; one for each member suffices.
    """
    counter = np.zeros(1, np.int64)
    failures: list[BaseException] = []

    def guarded(thread: int) -> None:
        try:
            work(counter, thread)
        except BaseException as error:
            counter[0] = _NOBODY_LEFT
            failures.append(error)

    threads = min(threads, members)
    if threads == 1:
        guarded(0)
    else:
        team = _torch_team() if os.getpid() == _IMPORTED_BY else None  # a fork has none of its parent's threads
        (team or _python_team)(guarded, threads)
    if failures:
        raise failures[0]
