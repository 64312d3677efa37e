"""A vector of eight float32 for Numba: what is written is what is executed, in this order, on every CPU.

Loops that the compiler vectorises by itself may or may not use registers well, and may sum in another order after an
update of the compiler. Here the order of every operation is in the source: a product and a sum are one rounding
(``fma``), and the eight lanes are summed in one fixed order (``sum_lanes``). The machine code is AVX2 where the CPU has
it and the nearest thing elsewhere; the result is the same.

Vectors are values of Numba functions, like a float. Groups of vectors are tuples, whose length the compiler knows, so a
tile of accumulators stays in registers. Nothing here checks bounds.
"""

from __future__ import annotations

import operator

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

LANES = 8

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_F32, LANES)
_INTEGERS = ir.VectorType(_I32, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


class Float32x8(types.Type):
    """Numba's type of a vector of eight float32."""

    def __init__(self) -> None:
        super().__init__(name="float32x8")


float32x8 = Float32x8()


@register_model(Float32x8)
class _Float32x8Model(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _VECTOR)


def _splat_constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _splat(builder, scalar):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(_INTEGERS, [0] * LANES))


def _call(builder, name: str, result, *arguments):
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _address(context, builder, array_type, array, index, element=_VECTOR):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), element.as_pointer())


def _is_float32_array(numba_type) -> bool:
    return isinstance(numba_type, types.Array) and numba_type.dtype == types.float32 and numba_type.ndim == 1


# Arithmetic: a + b, a - b, a * b, a / b, -a.

_BINARY = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}


def _define_binary(function, instruction: str) -> None:
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            if tuple(args) == (float32x8, float32x8):
                return signature(float32x8, float32x8, float32x8)
            return None

    @lower_builtin(function, float32x8, float32x8)
    def _lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


for _function, _instruction in _BINARY.items():
    _define_binary(_function, _instruction)


@intrinsic
def splat(typingctx, value):
    """All lanes equal to a float32."""

    def codegen(context, builder, sig, args):
        return _splat(builder, context.cast(builder, args[0], sig.args[0], types.float32))

    return float32x8(value), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c with one rounding."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.fma.v8f32", _VECTOR, *args)

    return float32x8(float32x8, float32x8, float32x8), codegen


@intrinsic
def sqrt(typingctx, a):
    """Square root, correctly rounded."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.sqrt.v8f32", _VECTOR, *args)

    return float32x8(float32x8), codegen


@intrinsic
def absolute(typingctx, a):
    """|a|."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.fabs.v8f32", _VECTOR, *args)

    return float32x8(float32x8), codegen


@intrinsic
def where_positive(typingctx, condition, a, b):
    """a where condition > 0, else b; b where the condition is NaN."""

    def codegen(context, builder, sig, args):
        mask = builder.fcmp_ordered(">", args[0], _splat_constant(0.0))
        return builder.select(mask, args[1], args[2])

    return float32x8(float32x8, float32x8, float32x8), codegen


# Memory. ``array`` is a contiguous one-dimensional float32 array, indices count floats.


@intrinsic
def load(typingctx, array, index):
    """Elements index..index+7."""
    if not _is_float32_array(array):
        return None

    def codegen(context, builder, sig, args):
        address = _address(context, builder, sig.args[0], args[0], args[1])
        return builder.load(address, align=4)

    return float32x8(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Writes elements index..index+7."""
    if not _is_float32_array(array):
        return None

    def codegen(context, builder, sig, args):
        address = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x8), codegen


def _first_lanes(builder, count):
    lanes = ir.Constant(_INTEGERS, list(range(LANES)))
    one = builder.insert_element(ir.Constant(_INTEGERS, ir.Undefined), builder.trunc(count, _I32), _I32(0))
    return builder.icmp_signed("<", lanes, builder.shuffle_vector(one, one, ir.Constant(_INTEGERS, [0] * LANES)))


@intrinsic
def load_first(typingctx, array, index, count):
    """Elements index..index+count-1, zero in the other lanes; only these elements are read."""
    if not _is_float32_array(array):
        return None

    def codegen(context, builder, sig, args):
        address = _address(context, builder, sig.args[0], args[0], args[1])
        mask = _first_lanes(builder, args[2])
        return _call(builder, "llvm.masked.load.v8f32.p0", _VECTOR, address, _I32(4), mask, _splat_constant(0.0))

    return float32x8(array, types.intp, types.intp), codegen


@intrinsic
def store_first(typingctx, array, index, vector, count):
    """Writes the first ``count`` lanes to elements index..index+count-1."""
    if not _is_float32_array(array):
        return None

    def codegen(context, builder, sig, args):
        address = _address(context, builder, sig.args[0], args[0], args[1])
        mask = _first_lanes(builder, args[3])
        _call(builder, "llvm.masked.store.v8f32.p0", ir.VoidType(), args[2], address, _I32(4), mask)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x8, types.intp), codegen


# Tiles: tuples of vectors.


@intrinsic(prefer_literal=True)
def zeros(typingctx, count):
    """A tuple of ``count`` zero vectors."""
    result = types.UniTuple(float32x8, count.literal_value)

    def codegen(context, builder, sig, args):
        return context.make_tuple(builder, result, [_splat_constant(0.0)] * result.count)

    return result(count), codegen


@intrinsic(prefer_literal=True)
def load_rows(typingctx, array, index, stride, count):
    """Tuple of ``count`` vectors, the k-th from index + k * stride."""
    if not _is_float32_array(array):
        return None
    result = types.UniTuple(float32x8, count.literal_value)

    def codegen(context, builder, sig, args):
        rows, index = [], args[1]
        for _ in range(result.count):
            rows.append(builder.load(_address(context, builder, sig.args[0], args[0], index), align=4))
            index = builder.add(index, args[2])
        return context.make_tuple(builder, result, rows)

    return result(array, types.intp, types.intp, count), codegen


@intrinsic(prefer_literal=True)
def splat_row(typingctx, array, index, count):
    """Tuple of ``count`` vectors, the k-th with all lanes equal to element index + k."""
    if not _is_float32_array(array):
        return None
    result = types.UniTuple(float32x8, count.literal_value)

    def codegen(context, builder, sig, args):
        rows = []
        for k in range(result.count):
            address = _address(context, builder, sig.args[0], args[0], builder.add(args[1], args[1].type(k)), _F32)
            rows.append(_splat(builder, builder.load(address)))
        return context.make_tuple(builder, result, rows)

    return result(array, types.intp, count), codegen


@intrinsic
def fma_outer(typingctx, sums, a, b):
    """Adds the outer product of two tuples to a tile: sums[i * len(b) + j] += a[i] * b[j]."""

    def codegen(context, builder, sig, args):
        rows, columns = sig.args[1].count, sig.args[2].count
        result = args[0]
        for i in range(rows):
            for j in range(columns):
                k = i * columns + j
                left, right = builder.extract_value(args[1], i), builder.extract_value(args[2], j)
                value = _call(builder, "llvm.fma.v8f32", _VECTOR, left, right, builder.extract_value(args[0], k))
                result = builder.insert_value(result, value, k)
        return result

    return sums(sums, a, b), codegen
