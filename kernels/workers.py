"""Members shared out among threads: each thread takes the next member that nobody has taken.

Threads are Python's, as kernels run without the GIL: no threading layer of Numba's, so any number of callers, forks and
an uneven number of members are all the same.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

WORTH_A_THREAD = 50_000  # weights of an update or of a rank that take about as long as a thread takes to start
_NOBODY_LEFT = 1 << 60
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

    others = [threading.Thread(target=guarded, args=(i,), daemon=True) for i in range(1, min(threads, members))]
    for thread in others:
        thread.start()
    guarded(0)
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]
