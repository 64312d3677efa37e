"""A vector of sixteen float32 for Numba: what is written is what is executed, in this order, on every CPU.

Loops that the compiler vectorises by itself may or may not use registers well, and may sum in another order after an
update of the compiler. Here the order of every operation is in the source: a product and a sum are one rounding
(``fma``), and lanes are summed in one fixed order. The machine code has one register for a vector with AVX-512, two
with AVX2 and four on ARM; the result is the same.

Vectors are values of Numba functions, like a float; `tuples` has groups of them. ``array`` is a contiguous,
one-dimensional array of float32 or, better, a ``pointer`` to one: Numba counts references to arrays at every call,
which costs more than a small tile. Indices count floats, and nothing checks bounds.
"""

from __future__ import annotations

import operator

import numba
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

LANES = 16

_F32, _F64, _I16, _I32, _I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, LANES)
_INTEGERS = ir.VectorType(_I32, LANES)
_SHORTS = ir.VectorType(_I16, LANES // 2)
_ALIGNMENT = 4  # bytes that are certain; aligned addresses are as fast without the promise


def has_wide_registers() -> bool:
    """Whether a vector is one register, of 32: sizes of tiles differ, results do not."""
    features = numba.config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return "+avx512f" in features


class Float32x16(types.Type):
    """Numba's type of a vector of sixteen float32."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


float32x16 = Float32x16()


@register_model(Float32x16)
class _Float32x16Model(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _VECTOR)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _integers(values) -> ir.Constant:
    return ir.Constant(_INTEGERS, list(values))


def _splat(builder, scalar, kind=_VECTOR):
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes)))


def _call(builder, name: str, result, *arguments):
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _address(context, builder, kind, place, index, element=_VECTOR):
    if isinstance(kind, types.Array):
        place = context.make_array(kind)(context, builder, place).data
    return builder.bitcast(builder.gep(place, [index]), element.as_pointer())


# Arithmetic: a + b, a - b, a * b, a / b.

_BINARY = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}


def _define_binary(function, instruction: str) -> None:
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            return signature(float32x16, *args) if tuple(args) == (float32x16, float32x16) else None

    @lower_builtin(function, float32x16, float32x16)
    def _lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


for _function, _instruction in _BINARY.items():
    _define_binary(_function, _instruction)


def _lanewise(name: str):
    """Code generator of a function of the compiler that works lane by lane."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.{name}.v16f32", _VECTOR, *args)

    return codegen


@intrinsic
def fma(typingctx, a, b, c):
    """Product and sum with one rounding, a * b + c."""
    return float32x16(a, b, c), _lanewise("fma")


@intrinsic
def sqrt(typingctx, a):
    """Square root, correctly rounded."""
    return float32x16(a), _lanewise("sqrt")


@intrinsic
def absolute(typingctx, a):
    """Absolute value."""
    return float32x16(a), _lanewise("fabs")


@intrinsic
def maximum(typingctx, a, b):
    """The larger one, lane by lane; NaN if either is."""
    return float32x16(a, b), _lanewise("maximum")


@intrinsic
def minimum(typingctx, a, b):
    """The smaller one, lane by lane; NaN if either is."""
    return float32x16(a, b), _lanewise("minimum")


@intrinsic
def splat(typingctx, value):
    """All lanes equal to a number, rounded to float32."""

    def codegen(context, builder, sig, args):
        return _splat(builder, context.cast(builder, args[0], sig.args[0], types.float32))

    return float32x16(value), codegen


@intrinsic
def where_positive(typingctx, condition, a, b):
    """Lanes of a where the condition is > 0, else of b, also where the condition is NaN."""

    def codegen(context, builder, sig, args):
        chosen = builder.select(builder.fcmp_ordered(">", args[0], _constant(0.0)), args[1], args[2])
        # Without the fence, a choice between a new value and the old one in memory becomes a masked store: slow.
        return _call(builder, "llvm.arithmetic.fence.v16f32", _VECTOR, chosen)

    return float32x16(condition, a, b), codegen


@intrinsic
def first_lanes(typingctx, vector, count):
    """The first ``count`` lanes; the others become zero."""

    def codegen(context, builder, sig, args):
        limit = _splat(builder, builder.trunc(args[1], _I32), _INTEGERS)
        return builder.select(builder.icmp_signed("<", _integers(range(LANES)), limit), args[0], _constant(0.0))

    return float32x16(vector, types.intp), codegen


@intrinsic
def times_power_of_two(typingctx, vector, rounder):
    """The vector times 2**n, where ``rounder`` is n + 1.5 * 2**23 and the result is a normal number."""

    def codegen(context, builder, sig, args):
        shift = builder.shl(builder.bitcast(args[1], _INTEGERS), _integers([23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(args[0], _INTEGERS), shift), _VECTOR)

    return float32x16(vector, rounder), codegen


@intrinsic
def split_exponent(typingctx, vector):
    """Of positive normal numbers m 2^e the mantissas m, from sqrt(1/2) to sqrt(2), and the exponents e."""
    result = types.UniTuple(float32x16, 2)

    def codegen(context, builder, sig, args):
        bits, shift = builder.bitcast(args[0], _INTEGERS), _integers([23] * LANES)
        exponent = builder.ashr(builder.sub(bits, _integers([0x3F3504F3] * LANES)), shift)
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, shift)), _VECTOR)
        return context.make_tuple(builder, result, [mantissa, builder.sitofp(exponent, _VECTOR)])

    return result(vector), codegen


@intrinsic
def lane_of(typingctx, vector, lane):
    """One lane."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], builder.trunc(args[1], _I32))

    return types.float32(vector, types.intp), codegen


@intrinsic
def sum_lanes(typingctx, vector):
    """Sum over the lanes, as a float64: lane k + 8 onto lane k, then 4, 2 and 1 apart."""

    def codegen(context, builder, sig, args):
        parts = builder.fpext(args[0], ir.VectorType(_F64, LANES))
        for width in (8, 4, 2, 1):
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
    """Where a contiguous array lies in memory: the array without its reference count, and just as good to index."""
    result = types.CPointer(array.dtype)

    def codegen(context, builder, sig, args):
        is_array = isinstance(array, types.Array)
        return context.make_array(array)(context, builder, args[0]).data if is_array else args[0]

    return result(array), codegen


def numbers_at(kind):
    """The function for kernels that gives a ``pointer`` to numbers of a kind from its value as an integer."""

    @intrinsic
    def at(typingctx, address):
        def codegen(context, builder, sig, args):
            return builder.inttoptr(args[0], context.get_value_type(kind).as_pointer())

        return types.CPointer(kind)(types.int64), codegen

    return at


@intrinsic
def load(typingctx, array, index):
    """Elements index..index+15."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        return builder.load(_address(context, builder, array, *args), align=_ALIGNMENT)

    return float32x16(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Writes elements index..index+15."""
    if not _is_row(array):
        return None

    def codegen(context, builder, sig, args):
        builder.store(args[2], _address(context, builder, array, *args[:2]), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def prefetch(typingctx, place, index):
    """Asks for the cache line of an element, through a ``pointer``."""

    def codegen(context, builder, sig, args):
        address = builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(8).as_pointer())
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), address, _I32(0), _I32(2), _I32(1))
        return context.get_dummy_value()

    return types.void(place, types.intp), codegen


# Random words.


@intrinsic
def multiply_words(typingctx, a, b):
    """The low and the high 64 bits of the product of two words without sign, all as int64."""
    result, wide = types.UniTuple(types.int64, 2), ir.IntType(128)

    def codegen(context, builder, sig, args):
        product = builder.mul(*(builder.zext(word, wide) for word in args))
        high = builder.lshr(product, wide(64))
        return context.make_tuple(builder, result, [builder.trunc(part, _I64) for part in (product, high)])

    return result(types.int64, types.int64), codegen


@intrinsic
def uniform_lanes(typingctx, words, index):
    """Numbers in [0, 1) by the upper 24 bits of the halves, the low one first, of words index..index+7."""

    def codegen(context, builder, sig, args):
        bits = builder.load(_address(context, builder, words, args[0], args[1], _INTEGERS), align=_ALIGNMENT)
        numbers = builder.sitofp(builder.lshr(bits, _integers([8] * LANES)), _VECTOR)
        return builder.fmul(numbers, _constant(2.0**-24))

    return float32x16(words, types.intp), codegen


# Which numbers are not zero.


def nonzero_table() -> list[int]:
    """For `append_nonzero`: of each byte the positions of its bits, eight numbers each."""
    return [k for byte in range(256) for k in ([k for k in range(8) if byte >> k & 1] + [0] * 8)[:8]]


@intrinsic
def append_nonzero(typingctx, values, index, table, indices, count, first):
    """Appends the positions of nonzero elements among index..index+15, plus ``first``, to a list.

    ``table`` is a ``pointer`` to `nonzero_table` as uint16, ``indices`` one to the list, of uint16, which holds
    ``count`` and needs room for 16 more. Returns the new count. NaN is not zero.
    """

    def codegen(context, builder, sig, args):
        vector = builder.load(_address(context, builder, values, args[0], args[1]), align=_ALIGNMENT)
        bits = builder.bitcast(builder.fcmp_unordered("!=", vector, _constant(0.0)), _I16)
        count, start = args[4], builder.trunc(args[5], _I16)
        for half in range(2):
            byte = builder.zext(builder.trunc(builder.lshr(bits, _I16(8 * half)), ir.IntType(8)), _I64)
            row = builder.bitcast(builder.gep(args[2], [builder.mul(byte, _I64(8))]), _SHORTS.as_pointer())
            found = builder.add(
                builder.load(row, align=2), _splat(builder, builder.add(start, _I16(8 * half)), _SHORTS)
            )
            builder.store(found, builder.bitcast(builder.gep(args[3], [count]), _SHORTS.as_pointer()), align=2)
            count = builder.add(count, builder.ctpop(byte))
        return count

    return types.intp(values, types.intp, table, indices, types.intp, types.intp), codegen


@intrinsic
def lowest_bit(typingctx, bits):
    """Position of the lowest bit of an integer that has one."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.int64), codegen
