"""Columns to and from numpy and Python.

``pa.array``, ``pa.scalar``, ``Array.to_numpy`` and ``DataType.to_pandas_dtype`` import pandas where it is installed, which takes longer than
reading the index of a run does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DTYPES = {pa.int32(): np.int32, pa.int64(): np.int64, pa.float32(): np.float32, pa.float64(): np.float64}


def numbers(column: pa.ChunkedArray | pa.Array, missing: float | None = None) -> NDArray[Any]:
    """Return a column of numbers. missing: in place of nulls, of which there must be none without it."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.zeros(0, dtype=DTYPES[array.type])
    if missing is None or not array.null_count:
        return np.from_dlpack(array)
    rows, (valid, data) = slice(array.offset, array.offset + len(array)), array.buffers()
    is_valid = np.unpackbits(np.frombuffer(valid, dtype=np.uint8), bitorder="little")[rows]
    return np.where(is_valid, np.frombuffer(data, dtype=DTYPES[array.type])[rows], missing)


def number_column(values: NDArray[Any] | Sequence[float]) -> pa.Array:
    """Return numbers as a column of numpy's type for them, such as int64 or double."""
    plain = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(plain.dtype), len(plain), [None, pa.py_buffer(plain)])


def text_column(values: Sequence[str]) -> pa.Array:
    """Return texts as a column of strings."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)
