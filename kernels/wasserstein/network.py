"""A sorting network of 256 words in sixteen vectors, for Numba: no branch and no memory between its steps.

Words lie in sixteen rows of sixteen lanes. First each lane's column is sorted, then columns are joined two by two, a
bitonic merge each: steps within rows shuffle lanes, steps between rows need none. Minimum and maximum of integers take
one cycle where those of floats take two.
"""

from __future__ import annotations

from collections.abc import Iterator

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = ROWS = 16
WORDS = LANES * ROWS

_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_I32, LANES)


def _column_steps() -> Iterator[tuple[int, int]]:
    """Pairs of rows whose exchanges sort each column: Batcher's odd-even merge sort."""
    for half in (1, 2, 4, 8):
        distance = half
        while distance:
            for first in range(distance % half, ROWS - distance, 2 * distance):
                for row in range(first, first + min(distance, ROWS - distance - first)):
                    if row // (2 * half) == (row + distance) // (2 * half):
                        yield row, row + distance
            distance //= 2


class _Network:
    """Writes the network's instructions."""

    def __init__(self, builder, rows: list) -> None:
        self.builder, self.rows = builder, rows

    def _of(self, name: str, *vectors):
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(vectors))
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), vectors)

    def _exchanged(self, a, b):
        return self._of("llvm.umin.v16i32", a, b), self._of("llvm.umax.v16i32", a, b)

    def _picked(self, a, b, lanes):
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, LANES), list(lanes)))

    def _parted(self, vector, other, upper: int):
        """The larger words in lanes whose number has the bit `upper`, the smaller ones in the others."""
        low, high = self._exchanged(vector, other)
        return self._picked(low, high, (lane + LANES * bool(lane & upper) for lane in range(LANES)))

    def exchange(self, first: int, second: int) -> None:
        self.rows[first], self.rows[second] = self._exchanged(self.rows[first], self.rows[second])

    def join(self, columns: int) -> None:
        """Two sorted runs of `columns` columns each, side by side, become one."""
        flip = [lane ^ (2 * columns - 1) for lane in range(LANES)]
        for row in range(ROWS // 2):
            low, high = self.rows[row], self.rows[-1 - row]
            self.rows[row] = self._parted(low, self._picked(high, high, flip), columns)
            self.rows[-1 - row] = self._parted(high, self._picked(low, low, flip), columns)
        distance = columns // 2
        while distance:
            for row, vector in enumerate(self.rows):
                beside = self._picked(vector, vector, (lane ^ distance for lane in range(LANES)))
                self.rows[row] = self._parted(vector, beside, distance)
            distance //= 2
        for distance in (8, 4, 2, 1):
            for row in range(ROWS):
                if not row & distance:
                    self.exchange(row, row + distance)


@intrinsic
def sort_columns(typingctx, words):
    """Sorts 256 uint32: word number ``16 c + r`` of the order comes to lie at ``words[16 r + c]``."""

    def codegen(context, builder, sig, args):
        data = context.make_array(words)(context, builder, args[0]).data
        places = [builder.bitcast(builder.gep(data, [_I32(LANES * r)]), _VECTOR.as_pointer()) for r in range(ROWS)]
        network = _Network(builder, [builder.load(place, align=4) for place in places])
        for pair in _column_steps():
            network.exchange(*pair)
        for columns in (1, 2, 4, 8):
            network.join(columns)
        for place, vector in zip(places, network.rows):
            builder.store(vector, place, align=4)
        return context.get_dummy_value()

    return types.void(words), codegen
