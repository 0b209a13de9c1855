"""The loops of ``core.inference.many_masks``, compiled by numba: a layer's outputs straight from the bits of a mask.

Bits are read 32 at a time, at whatever bit a row of weights begins. Each selects a weight, which is multiplied by
its input; what stands behind the end of a row meets inputs that are 0. Sums are formed in 32 lanes and then halved, an
order fixed by the code alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from core.masks.compiled import compiler

STEP_BITS = 32
WORD_BYTES = 8  # read at a time, of which a row that begins within a byte needs five

_cgutils: Any = cgutils  # it has no types
_compile = compiler(nogil=True)
_inline: Callable[[Callable[..., Any]], Any] = intrinsic  # its own type has one argument too many
_INT, _LONG = ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(ir.FloatType(), STEP_BITS), ir.VectorType(_INT, STEP_BITS)
_EACH_BIT = ir.Constant(_INTS, [1 << bit for bit in range(STEP_BITS)])
_ZEROS = ir.Constant(_FLOATS, None)


@_inline
def _row_sum(_typing: Any, bits: Any, first: Any, weights: Any, start: Any, inputs: Any, steps: Any) -> Any:
    """Return the sum of weight times input where a bit is 1, over ``steps`` times 32 weights.

    bits: uint8, from bit ``first``. weights: float32, from ``start``. inputs: float32, from 0.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        data = {
            index: context.make_array(signature.args[index])(context, builder, args[index]).data
            for index in (0, 2, 4)
        }
        total = _cgutils.alloca_once_value(builder, _ZEROS)
        with _cgutils.for_range(builder, args[5]) as loop:
            offset = builder.mul(loop.index, ir.Constant(_LONG, STEP_BITS))
            kept = _kept(builder, data[0], builder.add(args[1], offset))
            chosen = builder.select(kept, _load(builder, data[2], builder.add(args[3], offset)), _ZEROS)
            product = builder.fmul(chosen, _load(builder, data[4], offset), flags=("contract",))
            builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
        return _halved(builder, builder.load(total))

    return types.float32(bits, first, weights, start, inputs, steps), generate


def _kept(builder: Any, bits: Any, first: Any) -> Any:
    """Return which of the 32 bits from bit ``first`` are 1."""
    place = builder.gep(bits, [builder.lshr(first, ir.Constant(_LONG, 3))])
    word = builder.load(builder.bitcast(place, _LONG.as_pointer()), align=1)
    low = builder.trunc(builder.lshr(word, builder.and_(first, ir.Constant(_LONG, 7))), _INT)
    alone = builder.insert_element(ir.Constant(_INTS, ir.Undefined), low, ir.Constant(_INT, 0))
    spread = builder.shuffle_vector(alone, ir.Constant(_INTS, ir.Undefined), ir.Constant(_INTS, None))
    return builder.icmp_signed("!=", builder.and_(spread, _EACH_BIT), ir.Constant(_INTS, None))


def _load(builder: Any, values: Any, index: Any) -> Any:
    place = builder.bitcast(builder.gep(values, [index]), _FLOATS.as_pointer())
    return builder.load(place, align=4)


def _halved(builder: Any, lanes: Any) -> Any:
    """Return the sum of the lanes: the upper half is added to the lower until one is left."""
    width = STEP_BITS
    while width > 1:
        width //= 2
        halves = [
            builder.shuffle_vector(
                lanes,
                ir.Constant(lanes.type, ir.Undefined),
                ir.Constant(ir.VectorType(_INT, width), [*range(first, first + width)]),
            )
            for first in (0, width)
        ]
        lanes = builder.fadd(*halves)
    return builder.extract_element(lanes, ir.Constant(_INT, 0))


@_compile
def gather(words: Any, masks: Any, out: Any) -> None:
    """Copy the packed masks that are named into rows of ``out``, uint64 [B, at least T * 32].

    words: uint64 [T, K, 32], the tiles; copied one by one, as numba takes longer to copy a slice than to read it.
    """
    num = words.shape[2]
    for row in range(len(masks)):
        mask = masks[row]
        for tile in range(words.shape[0]):
            for word in range(num):
                out[row, tile * num + word] = words[tile, mask, word]


@_compile
def layer(bits: Any, first_byte: Any, weights: Any, inputs: Any, num_inputs: Any, out: Any) -> None:
    """Set ``out`` [B, O, ...] to a layer's outputs, each image under a mask of its own.

    bits: uint8 [B, bytes]; the layer's begin at ``first_byte``. weights: float32, flat, with 32 more at the end.
    inputs: float32 [B, at least num_inputs rounded up to 32], 0 from ``num_inputs`` on.
    """
    steps = np.int64((num_inputs + STEP_BITS - 1) // STEP_BITS)
    for output in range(out.shape[1]):
        start = np.int64(output * num_inputs)
        for image in range(len(out)):
            out[image, output] = _row_sum(
                bits[image], np.int64(8 * first_byte) + start, weights, start, inputs[image], steps
            )


@_compile
def relu(values: Any, width: Any) -> None:
    """Set negative values to 0, and all values from ``width`` on."""
    for row in range(len(values)):
        for column in range(width):
            values[row, column] = max(values[row, column], np.float32(0))
        values[row, width:] = 0
