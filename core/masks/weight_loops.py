"""The loop of ``mask_weights``, compiled by numba: one byte of a mask selects eight weights at once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from core.masks.compiled import compiler

_compile = compiler(nogil=True)
_inline: Callable[[Callable[..., Any]], Any] = intrinsic  # its own type has one argument too many
_EIGHT = ir.VectorType(ir.FloatType(), 8)
_BITS = ir.VectorType(ir.IntType(1), 8)


@_inline
def _select_eight(_typing: Any, out: Any, values: Any, index: Any, byte: Any) -> Any:
    """Set eight of ``out``, float32, to those of ``values`` whose bit in ``byte`` is 1, else to 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        target, source = (
            builder.gep(
                builder.bitcast(context.make_array(kind)(context, builder, array).data, _EIGHT.as_pointer()),
                [args[2]],
            )
            for kind, array in zip(signature.args[:2], args[:2], strict=True)
        )
        kept = builder.bitcast(args[3], _BITS)  # the lowest bit first, where bytes start with their lowest
        chosen = builder.select(kept, builder.load(source, align=4), ir.Constant(_EIGHT, None))
        builder.store(chosen, target, align=4)
        return context.get_dummy_value()

    return types.void(out, values, index, byte), generate


@_compile
def select(packed: Any, values: Any, out: Any) -> None:
    """Set ``out``, float32, to ``values`` where the bit of ``packed`` is 1, else to 0; all are flat."""
    whole = len(out) // 8
    for index in range(whole):
        _select_eight(out, values, np.uint64(index), packed[index])
    for index in range(8 * whole, len(out)):
        kept = (packed[whole] >> np.uint8(index % 8)) & np.uint8(1)
        out[index] = values[index] if kept else np.float32(0)
