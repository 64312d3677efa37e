"""Tuples of vectors, whose length the compiler knows, so that a tile of accumulators stays in registers."""

from __future__ import annotations

from fastplast_kernels.train_step.cpu.simd import (
    _ALIGNMENT,
    _F32,
    _VECTOR,
    LANES,
    _address,
    _call,
    _constant,
    _is_row,
    _shuffle,
    _splat,
    float32x16,
)
from numba.core import types
from numba.extending import intrinsic


def _row_addresses(context, builder, array, args, count, element=_VECTOR):
    """Where each of ``count`` rows lies, the k-th at index + k * stride, the arguments after the array."""
    at = args[1]
    for _ in range(count):
        yield _address(context, builder, array, args[0], at, element)
        at = builder.add(at, args[2])


@intrinsic(prefer_literal=True)
def zeros(typingctx, count):
    """A tuple of ``count`` zero vectors."""
    result = types.UniTuple(float32x16, count.literal_value)

    def codegen(context, builder, sig, args):
        return context.make_tuple(builder, result, [_constant(0.0)] * result.count)

    return result(count), codegen


@intrinsic(prefer_literal=True)
def load_rows(typingctx, array, index, stride, count):
    """A tuple of ``count`` vectors, the k-th from index + k * stride."""
    if not _is_row(array):
        return None
    result = types.UniTuple(float32x16, count.literal_value)

    def codegen(context, builder, sig, args):
        addresses = _row_addresses(context, builder, array, args, result.count)
        return context.make_tuple(builder, result, [builder.load(one, align=_ALIGNMENT) for one in addresses])

    return result(array, types.intp, types.intp, count), codegen


@intrinsic(prefer_literal=True)
def splat_row(typingctx, array, index, stride, count):
    """A tuple of ``count`` vectors, all lanes of the k-th equal to element index + k * stride."""
    if not _is_row(array):
        return None
    result = types.UniTuple(float32x16, count.literal_value)

    def codegen(context, builder, sig, args):
        addresses = _row_addresses(context, builder, array, args, result.count, _F32)
        return context.make_tuple(builder, result, [_splat(builder, builder.load(one)) for one in addresses])

    return result(array, types.intp, types.intp, count), codegen


@intrinsic
def store_rows(typingctx, array, index, stride, tile):
    """Writes a tile, its k-th vector to index + k * stride."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        for k, address in enumerate(_row_addresses(context, builder, array, args, tile.count)):
            builder.store(builder.extract_value(args[3], k), address, align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), codegen


@intrinsic
def add_rows(typingctx, array, index, stride, tile):
    """Adds a tile to memory, its k-th vector to index + k * stride."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        for k, address in enumerate(_row_addresses(context, builder, array, args, tile.count)):
            total = builder.fadd(builder.load(address, align=_ALIGNMENT), builder.extract_value(args[3], k))
            builder.store(total, address, align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), codegen


@intrinsic
def fma_outer(typingctx, tile, a, b):
    """The tile plus the outer product of two tuples: element i * len(b) + j is tile[...] + a[i] * b[j]."""

    def codegen(context, builder, sig, args):
        result = args[0]
        for k in range(sig.args[0].count):
            i, j = divmod(k, sig.args[2].count)
            left, right = builder.extract_value(args[1], i), builder.extract_value(args[2], j)
            value = _call(builder, "llvm.fma.v16f32", _VECTOR, left, right, builder.extract_value(args[0], k))
            result = builder.insert_value(result, value, k)
        return result

    return tile(tile, a, b), codegen


@intrinsic
def absolute_rows(typingctx, tile):
    """Absolute values of a tuple of vectors."""

    def codegen(context, builder, sig, args):
        vectors = (builder.extract_value(args[0], k) for k in range(sig.args[0].count))
        return context.make_tuple(
            builder, sig.return_type, [_call(builder, "llvm.fabs.v16f32", _VECTOR, x) for x in vectors]
        )

    return tile(tile), codegen


def _exchange(distance: int) -> tuple[list[int], list[int]]:
    """Lanes of two vectors that lie ``distance`` apart: those that the first keeps, and those that the second does."""
    low = [k + (LANES - distance if k & distance else 0) for k in range(LANES)]
    return low, [k + distance for k in low]


@intrinsic
def sum_rows(typingctx, tile):
    """Lane k is the sum over the lanes of the k-th of sixteen vectors: neighbours, then 2, 4 and 8 apart."""

    def codegen(context, builder, sig, args):
        rows = [builder.extract_value(args[0], k) for k in range(LANES)]
        for low, high in map(_exchange, (1, 2, 4, 8)):
            pairs = zip(rows[::2], rows[1::2])
            rows = [builder.fadd(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high)) for a, b in pairs]
        return rows[0]

    return float32x16(tile), codegen


@intrinsic
def transpose(typingctx, tile):
    """Lane b of vector a of sixteen vectors becomes lane a of vector b."""

    def codegen(context, builder, sig, args):
        rows = [builder.extract_value(args[0], k) for k in range(LANES)]
        for distance in (8, 4, 2, 1):  # exchange off-diagonal squares of this size
            low, high = _exchange(distance)
            for k in range(LANES):
                if not k & distance:
                    a, b = rows[k], rows[k + distance]
                    rows[k], rows[k + distance] = _shuffle(builder, a, b, low), _shuffle(builder, a, b, high)
        return context.make_tuple(builder, tile, rows)

    return tile(tile), codegen
