"""Images and tasks in the body of a request: JSON, .npy, .npz and PNG."""

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import InferenceError, first_line
from orchestrator.images import images_in_units, png_image

NPY_1 = b"\x93NUMPY\x01\x00"  # how files of version 1.0 begin, those of plain arrays
MAX_UNPACKED_BYTES = 2**28  # of an archive, which may be a thousandth of that
JSON, NPY, NPZ, PNG = "application/json", "application/x-npy", "application/x-npz", "image/png"


class UnknownTypeError(Exception):
    """A content type that is none of ours."""


@dataclass(frozen=True)
class ImageRequest:
    """Images to answer. images: float32 [N, D], in the units of the data set. tasks: int64 [N] if they are given."""

    images: NDArray[np.float32]
    tasks: NDArray[np.int64] | None

    def __len__(self) -> int:
        """Return the number of images N."""
        return len(self.images)


@dataclass(frozen=True)
class Parts:
    """What a body holds."""

    images: Any
    tasks: Any = None


def parse_request(
    content: bytes, content_type: str, query_tasks: str | None, image_shape: tuple[int, ...], scale: float
) -> ImageRequest:
    """Return the request in a body. Raises InferenceError or UnknownTypeError.

    content_type: one of ``PARSERS``. query_tasks: of the address, such as ``3`` or ``3,4``; instead of tasks in the
    body. image_shape, scale: of the data set. Whole numbers are pixels in its units, floats are fractions.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == PNG:
        return ImageRequest(png_image(content, image_shape, scale, "body"), _tasks(query_tasks, None, 1))
    parts = parse_parts(content, kind)
    images = images_in_units(parts.images, image_shape, scale, "images")
    return ImageRequest(images, _tasks(query_tasks, parts.tasks, len(images)))


def parse_parts(content: bytes, kind: str) -> Parts:
    """Return the arrays in a body. Raises InferenceError or UnknownTypeError."""
    if kind not in PARSERS:
        raise UnknownTypeError
    try:
        return PARSERS[kind](content)
    except InferenceError:
        raise
    # Damaged bytes raise almost anything.
    except Exception as error:
        raise InferenceError(f"body: cannot be read as {kind} ({first_line(error)[:120]})") from error


def parse_labelled(content: bytes, content_type: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a task to learn, by name. Raises InferenceError or UnknownTypeError."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (JSON, NPZ):
        raise UnknownTypeError
    try:
        return _json_arrays(content) if kind == JSON else _npz_arrays(content)
    except InferenceError:
        raise
    # Damaged bytes raise almost anything.
    except Exception as error:
        raise InferenceError(f"body: cannot be read as {kind} ({first_line(error)[:120]})") from error


def _json_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    found = json.loads(content)
    if not isinstance(found, dict):
        raise InferenceError('body: expected a mapping, such as {"images": [...], "tasks": [...]}')
    return {str(key): _array(value) for key, value in found.items()}


def _npz_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(one.file_size for one in archive.infolist())
    if unpacked > MAX_UNPACKED_BYTES:
        raise InferenceError(
            f"body: {unpacked:,} bytes when unpacked, expected at most {MAX_UNPACKED_BYTES:,}"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def _json_parts(content: bytes) -> Parts:
    return _named(_json_arrays(content))


def _array(value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise InferenceError("images: rows of different lengths, expected an array") from error


def _npy_parts(content: bytes) -> Parts:
    if content[: len(NPY_1)] != NPY_1:
        return Parts(np.load(io.BytesIO(content), allow_pickle=False))
    end = 10 + int.from_bytes(content[8:10], "little")
    shape, is_fortran, kind = _npy_header(content[:end])
    flat = np.frombuffer(content, kind, math.prod(shape), end)
    return Parts(flat.reshape(shape, order="F" if is_fortran else "C"))


@lru_cache(maxsize=256)
def _npy_header(head: bytes) -> tuple[tuple[int, ...], bool, Any]:
    """Return shape, order and dtype; numpy parses them as Python, which takes longer than to classify an image."""
    stream = io.BytesIO(head[len(NPY_1) :])
    shape, is_fortran, kind = np.lib.format.read_array_header_1_0(stream)
    if kind.hasobject:
        raise InferenceError("body: an array of Python objects, expected numbers")
    return shape, is_fortran, kind


def _npz_parts(content: bytes) -> Parts:
    return _named(_npz_arrays(content))


def _named(arrays: Mapping[str, Any]) -> Parts:
    unknown = arrays.keys() - {"images", "tasks", "task"}
    if unknown or "images" not in arrays:
        found = ", ".join(map(repr, arrays)) or "nothing"
        raise InferenceError(f"body: found {found}, expected images, and tasks where they are given")
    return Parts(arrays["images"], arrays.get("tasks", arrays.get("task")))


PARSERS: dict[str, Callable[[bytes], Parts]] = {
    JSON: _json_parts,
    NPY: _npy_parts,
    "application/octet-stream": _npy_parts,
    NPZ: _npz_parts,
}


def _tasks(query: str | None, found: Any, num_images: int) -> NDArray[np.int64] | None:
    """Return a task for each image, None if the request names none. Raises InferenceError."""
    if query is not None:
        try:
            found = np.array([int(word) for word in query.split(",")])
        except ValueError as error:
            raise InferenceError(f"task: found {query[:40]!r}, expected numbers such as 3 or 3,4") from error
    if found is None:
        return None
    tasks = np.asarray(found)
    if tasks.dtype.kind not in "ui" or tasks.size not in (1, num_images) or tasks.ndim > 1:
        raise InferenceError(
            f"tasks: found {tasks.size} of type {tasks.dtype}, expected whole numbers: one, or {num_images}, as there "
            "are images"
        )
    given = tasks.astype(np.int64).ravel()
    return given if len(given) == num_images else np.repeat(given, num_images)
