"""The loops of ``packed_tables``, compiled by numba; shapes and meanings are those given there.

A 64-bit word of mask bits is read in groups of six, and a table for each group holds the sums over the 64
subsets of its values. A row of a table is one vector of LANES integers, an integer per image, so that one
addition serves six weights of LANES images. The tables are 45 kB; those of whole bytes are 131 kB, and take
longer to fill and to read. numba's own vectoriser tests before each row whether the sum and the
tables overlap in memory, which takes longer than the additions; ``_add_rows`` states that they do not.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from core.masks.compiled import compiler

LANES = 16  # images at once: a row of 16 int32 is a cache line
WORD_BITS = 64
LINE_BYTES = 64  # of a cache
LINE_WORDS = 8
GROUP_BITS = 6
SUBSETS = 1 << GROUP_BITS
NUM_GROUPS = -(-WORD_BITS // GROUP_BITS)

_compile = compiler(nogil=True)
_inline: Callable[[Callable[..., Any]], Any] = intrinsic  # its own type has one argument too many
# Masses go into a bound that allows for any order of these additions.
_compile_reordered = compiler(fastmath={"reassoc", "nsz", "contract"}, nogil=True)
_ROW = ir.VectorType(ir.IntType(32), LANES)


def _row(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Return the address of row ``index`` of an int32 array [rows, LANES]."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(builder.bitcast(data, _ROW.as_pointer()), [index])


@_inline
def _add_rows(_typing: Any, sums: Any, row: Any, tables: Any, word: Any) -> Any:
    """Add to row ``row`` of ``sums`` the row of each group's table that the group's bits in ``word`` name."""

    def generate(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        address = _row(context, builder, signature.args[0], args[0], args[1])
        total = builder.load(address, align=4)
        for group in range(NUM_GROUPS):
            subset = builder.and_(builder.lshr(args[3], _whole(GROUP_BITS * group)), _whole(SUBSETS - 1))
            entry = builder.add(subset, _whole(SUBSETS * group))
            place = _row(context, builder, signature.args[2], args[2], entry)
            total = builder.add(total, builder.load(place, align=4))
        builder.store(total, address, align=4)
        return context.get_dummy_value()

    return types.void(sums, row, tables, word), generate


@_inline
def _set_row(_typing: Any, tables: Any, row: Any, subset: Any, values: Any, bit: Any) -> Any:
    """Set row ``row`` of ``tables`` to the sum of its row ``subset`` and row ``bit`` of ``values``."""

    def generate(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        kinds = signature.args
        old = builder.load(_row(context, builder, kinds[0], args[0], args[2]), align=4)
        value = builder.load(_row(context, builder, kinds[3], args[3], args[4]), align=4)
        builder.store(builder.add(old, value), _row(context, builder, kinds[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.void(tables, row, subset, values, bit), generate


def _whole(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


@_compile_reordered
def masses(values: Any, out: Any) -> None:
    """Set ``out`` [rows, 3]: the sums of positive and of minus negative values, and how many are not 0."""
    for row in range(len(values)):
        positive, negative, count = 0.0, 0.0, 0.0
        for value in values[row]:
            positive += max(value, np.float32(0))
            negative += max(-value, np.float32(0))
            count += 1.0 if value != 0 else 0.0
        out[row, 0], out[row, 1], out[row, 2] = positive, negative, count


@_compile
def table_sums(words: Any, masks: Any, values: Any, per_unit: Any, out: Any) -> None:
    """Add to ``out``, int32 [masks, LANES], each mask's sum of round(values * per_unit), modulo 2^32.

    words: uint64 [T, K, 32], the tiles. values: float32 [LANES, T * 2048].
    """
    tables = blank_rows(NUM_GROUPS * SUBSETS)
    whole = np.zeros((WORD_BITS, LANES), dtype=np.int32)
    line = np.zeros((LINE_WORDS, len(masks)), dtype=np.uint64)
    for tile in range(words.shape[0]):
        for start in range(0, words.shape[2], LINE_WORDS):
            _transpose(words[tile, :, start : start + LINE_WORDS], masks, line)
            for word in range(LINE_WORDS):
                first = (tile * words.shape[2] + start + word) * WORD_BITS
                _round(values[:, first : first + WORD_BITS], per_unit, whole)
                _fill(whole, tables)
                _look_up(line[word], tables, out)


@_compile
def blank_rows(num: Any) -> Any:
    """Return rows of LANES zeros, int32 [num, LANES], each in a cache line of its own."""
    memory = np.zeros((num + 1) * LANES, dtype=np.int32)
    start = -memory.ctypes.data % LINE_BYTES // 4
    return memory[start : start + num * LANES].reshape((num, LANES))


@_compile
def _transpose(words: Any, masks: Any, line: Any) -> None:
    """Copy a cache line of each mask, so that a word is read from neighbours.

    Lines at the distance of a tile share so few places in a cache that they push each other out.
    """
    for number in range(len(masks)):
        for word in range(LINE_WORDS):
            line[word, number] = words[masks[number], word]


@_compile
def _round(values: Any, per_unit: Any, whole: Any) -> None:
    for lane in range(LANES):
        for bit in range(WORD_BITS):
            whole[bit, lane] = np.int32(np.floor(values[lane, bit] * per_unit[lane] + 0.5))


@_compile
def _fill(whole: Any, tables: Any) -> None:
    """Fill the tables: a subset's sum is that without its highest bit, plus the value of that bit."""
    for bit in range(WORD_BITS):
        group, highest = bit // GROUP_BITS, 1 << bit % GROUP_BITS
        for subset in range(SUBSETS * group, SUBSETS * group + highest):
            _set_row(tables, np.uint64(subset + highest), np.uint64(subset), whole, np.uint64(bit))


@_compile
def _look_up(words: Any, tables: Any, out: Any) -> None:
    for number in range(len(words)):
        _add_rows(out, np.uint64(number), tables, words[number])
