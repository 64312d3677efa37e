"""A vector of eight float32 for Numba: what is written is what is executed, in this order, on every CPU.

Loops that the compiler vectorises by itself may or may not use registers well, and may sum in another order after an
update of the compiler. Here the order of every operation is in the source: a product and a sum are one rounding
(``fma``), and eight lanes are summed in one fixed order. The machine code is AVX2 where the CPU has it and the nearest
thing elsewhere; the result is the same.

Vectors are values of Numba functions, like a float. Groups of vectors are tuples, whose length the compiler knows, so a
tile of accumulators stays in registers. ``array`` is a contiguous, one-dimensional array of float32 or, better, a
``pointer`` to one: Numba counts references to arrays at every call, which costs more than a small tile. Indices count
floats, and nothing checks bounds.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

LANES = 8

_F32, _F64, _I32 = ir.FloatType(), ir.DoubleType(), ir.IntType(32)
_VECTOR = ir.VectorType(_F32, LANES)
_INTEGERS = ir.VectorType(_I32, LANES)
_HALF = ir.VectorType(_F32, LANES // 2)
_ALIGNMENT = 4  # bytes that are certain; aligned addresses are as fast without the promise


class Float32x8(types.Type):
    """Numba's type of a vector of eight float32."""

    def __init__(self) -> None:
        super().__init__(name="float32x8")


float32x8 = Float32x8()


@register_model(Float32x8)
class _Float32x8Model(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _VECTOR)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _integers(values) -> ir.Constant:
    return ir.Constant(_INTEGERS, list(values))


def _splat(builder, scalar, kind=_VECTOR):
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _I32(0))
    return builder.shuffle_vector(one, one, _integers([0] * LANES))


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes)))


def _call(builder, name: str, result, *arguments):
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _address(context, builder, kind, place, index, element=_VECTOR):
    if isinstance(kind, types.Array):
        place = context.make_array(kind)(context, builder, place).data
    return builder.bitcast(builder.gep(place, [index]), element.as_pointer())


def _first(builder, count):
    """Mask of the lanes below ``count``."""
    return builder.icmp_signed("<", _integers(range(LANES)), _splat(builder, builder.trunc(count, _I32), _INTEGERS))


# Arithmetic: a + b, a - b, a * b, a / b.

_BINARY = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}


def _define_binary(function, instruction: str) -> None:
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            return signature(float32x8, *args) if tuple(args) == (float32x8, float32x8) else None

    @lower_builtin(function, float32x8, float32x8)
    def _lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


for _function, _instruction in _BINARY.items():
    _define_binary(_function, _instruction)


def _lanewise(name: str):
    """Code generator of a function of the compiler that works lane by lane."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.{name}.v8f32", _VECTOR, *args)

    return codegen


@intrinsic
def fma(typingctx, a, b, c):
    """Product and sum with one rounding, a * b + c."""
    return float32x8(a, b, c), _lanewise("fma")


@intrinsic
def sqrt(typingctx, a):
    """Square root, correctly rounded."""
    return float32x8(a), _lanewise("sqrt")


@intrinsic
def absolute(typingctx, a):
    """Absolute value."""
    return float32x8(a), _lanewise("fabs")


@intrinsic
def maximum(typingctx, a, b):
    """The larger one, lane by lane; NaN if either is."""
    return float32x8(a, b), _lanewise("maximum")


@intrinsic
def splat(typingctx, value):
    """All lanes equal to a number, rounded to float32."""

    def codegen(context, builder, sig, args):
        return _splat(builder, context.cast(builder, args[0], sig.args[0], types.float32))

    return float32x8(value), codegen


@intrinsic
def where_positive(typingctx, condition, a, b):
    """Lanes of a where the condition is > 0, else of b, also where the condition is NaN."""

    def codegen(context, builder, sig, args):
        chosen = builder.select(builder.fcmp_ordered(">", args[0], _constant(0.0)), args[1], args[2])
        # Without the fence, a choice between a new value and the old one in memory becomes a masked store: slow.
        return _call(builder, "llvm.arithmetic.fence.v8f32", _VECTOR, chosen)

    return float32x8(condition, a, b), codegen


@intrinsic
def first_lanes(typingctx, vector, count):
    """The first ``count`` lanes; the others become zero."""

    def codegen(context, builder, sig, args):
        return builder.select(_first(builder, args[1]), args[0], _constant(0.0))

    return float32x8(vector, types.intp), codegen


@intrinsic
def times_power_of_two(typingctx, vector, rounder):
    """The vector times 2**n, where ``rounder`` is n + 1.5 * 2**23 and the result is a normal number."""

    def codegen(context, builder, sig, args):
        shift = builder.shl(builder.bitcast(args[1], _INTEGERS), _integers([23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(args[0], _INTEGERS), shift), _VECTOR)

    return float32x8(vector, rounder), codegen


@intrinsic
def sum_lanes(typingctx, vector):
    """Sum over the lanes, as a float64: lane k + 4 onto lane k, then 2 onto 0 and 3 onto 1, then 1 onto 0."""

    def codegen(context, builder, sig, args):
        parts = builder.fpext(args[0], ir.VectorType(_F64, LANES))
        for width in (4, 2, 1):
            low = _shuffle(builder, parts, parts, range(width))
            parts = builder.fadd(low, _shuffle(builder, parts, parts, range(width, 2 * width)))
        return builder.extract_element(parts, _I32(0))

    return types.float64(vector), codegen


# Memory.


def _is_row(kind) -> bool:
    is_array = isinstance(kind, types.Array) and (kind.dtype, kind.ndim, kind.layout) == (types.float32, 1, "C")
    return is_array or kind == types.CPointer(types.float32)


@intrinsic
def pointer(typingctx, array):
    """Where a float32 array lies in memory: the array without its reference count, and just as good to index."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        is_array = isinstance(array, types.Array)
        return context.make_array(array)(context, builder, args[0]).data if is_array else args[0]

    return types.CPointer(types.float32)(array), codegen


@intrinsic
def load(typingctx, array, index):
    """Elements index..index+7."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        return builder.load(_address(context, builder, array, *args), align=_ALIGNMENT)

    return float32x8(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Writes elements index..index+7."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        builder.store(args[2], _address(context, builder, array, *args[:2]), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def load_first(typingctx, array, index, count):
    """Elements index..index+count-1, zero in the other lanes; only these elements are read."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        address = _address(context, builder, array, *args[:2])
        arguments = address, _I32(_ALIGNMENT), _first(builder, args[2]), _constant(0.0)
        return _call(builder, "llvm.masked.load.v8f32.p0", _VECTOR, *arguments)

    return float32x8(array, types.intp, types.intp), codegen


@intrinsic
def store_first(typingctx, array, index, vector, count):
    """Writes the first ``count`` lanes to elements index..index+count-1."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        address = _address(context, builder, array, *args[:2])
        arguments = args[2], address, _I32(_ALIGNMENT), _first(builder, args[3])
        _call(builder, "llvm.masked.store.v8f32.p0", ir.VoidType(), *arguments)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), codegen


@intrinsic
def load_halves(typingctx, array, low, high):
    """Elements low..low+3, then high..high+3."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        halves = [
            builder.load(_address(context, builder, array, args[0], at, _HALF), align=_ALIGNMENT) for at in args[1:]
        ]
        return _shuffle(builder, *halves, range(LANES))

    return float32x8(array, types.intp, types.intp), codegen


@intrinsic
def store_halves(typingctx, array, low, high, vector):
    """Writes the lower four lanes to low..low+3, the upper four to high..high+3."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        for at, lanes in ((args[1], range(4)), (args[2], range(4, 8))):
            half = _shuffle(builder, args[3], args[3], lanes)
            builder.store(half, _address(context, builder, array, args[0], at, _HALF), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), codegen


# Tiles: tuples of vectors.


@intrinsic(prefer_literal=True)
def zeros(typingctx, count):
    """A tuple of ``count`` zero vectors."""
    result = types.UniTuple(float32x8, count.literal_value)

    def codegen(context, builder, sig, args):
        return context.make_tuple(builder, result, [_constant(0.0)] * result.count)

    return result(count), codegen


@intrinsic(prefer_literal=True)
def load_rows(typingctx, array, index, stride, count):
    """A tuple of ``count`` vectors, the k-th from index + k * stride."""
    if not _is_row(array):
        return None
    result = types.UniTuple(float32x8, count.literal_value)

    def codegen(context, builder, sig, args):
        rows, at = [], args[1]
        for _ in range(result.count):
            rows.append(builder.load(_address(context, builder, array, args[0], at), align=_ALIGNMENT))
            at = builder.add(at, args[2])
        return context.make_tuple(builder, result, rows)

    return result(array, types.intp, types.intp, count), codegen


@intrinsic(prefer_literal=True)
def load_rows_first(typingctx, array, index, stride, lanes, count):
    """A tuple of ``count`` vectors, the k-th the first ``lanes`` elements from index + k * stride, then zeros."""
    if not _is_row(array):
        return None
    result = types.UniTuple(float32x8, count.literal_value)

    def codegen(context, builder, sig, args):
        mask, rows, at = _first(builder, args[3]), [], args[1]
        for _ in range(result.count):
            arguments = _address(context, builder, array, args[0], at), _I32(_ALIGNMENT), mask, _constant(0.0)
            rows.append(_call(builder, "llvm.masked.load.v8f32.p0", _VECTOR, *arguments))
            at = builder.add(at, args[2])
        return context.make_tuple(builder, result, rows)

    return result(array, types.intp, types.intp, types.intp, count), codegen


@intrinsic(prefer_literal=True)
def splat_row(typingctx, array, index, stride, count):
    """A tuple of ``count`` vectors, all lanes of the k-th equal to element index + k * stride."""
    if not _is_row(array):
        return None
    result = types.UniTuple(float32x8, count.literal_value)

    def codegen(context, builder, sig, args):
        rows, at = [], args[1]
        for _ in range(result.count):
            rows.append(_splat(builder, builder.load(_address(context, builder, array, args[0], at, _F32))))
            at = builder.add(at, args[2])
        return context.make_tuple(builder, result, rows)

    return result(array, types.intp, types.intp, count), codegen


@intrinsic
def fma_outer(typingctx, tile, a, b):
    """The tile plus the outer product of two tuples: element i * len(b) + j is tile[...] + a[i] * b[j]."""

    def codegen(context, builder, sig, args):
        result = args[0]
        for k in range(sig.args[0].count):
            i, j = divmod(k, sig.args[2].count)
            left, right = builder.extract_value(args[1], i), builder.extract_value(args[2], j)
            value = _call(builder, "llvm.fma.v8f32", _VECTOR, left, right, builder.extract_value(args[0], k))
            result = builder.insert_value(result, value, k)
        return result

    return tile(tile, a, b), codegen


@intrinsic
def sum_rows(typingctx, tile):
    """Lane k is the sum over the lanes of the k-th of eight vectors: neighbours, then pairs, then halves."""

    def codegen(context, builder, sig, args):
        rows = [builder.extract_value(args[0], k) for k in range(LANES)]
        even, odd = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
        low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
        for one, other in ((even, odd), (even, odd), (low, high)):
            pairs = zip(rows[::2], rows[1::2])
            rows = [builder.fadd(_shuffle(builder, a, b, one), _shuffle(builder, a, b, other)) for a, b in pairs]
        return rows[0]

    return float32x8(tile), codegen
