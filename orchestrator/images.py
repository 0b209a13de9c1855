"""Reads and writes image files, PNG and .npy, in the units of a data set."""

import math
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.data.decode import MAX_PIXELS, decode
from core.errors import DataError, InferenceError, first_line

PNG_MAX = 255
MAX_NPY_BYTES = 2**30
MAX_SENT_PIXELS = 2**22  # of an image that came over a network


def read_images(path: Path, image_shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
    """Return the images of a file, float32 [N, D], with pixels from 0 to ``scale`` as in the data set.

    image_shape: (H, W), or (3, H, W) for colour. A PNG is one image whose 0 .. 255 (with 16 bits
    0 .. 65535) span the whole range.
    A .npy file holds [H, W], [N, H, W], [3, H, W], [N, 3, H, W] or flat pixels [D] or [N, D]: integers
    in the data set's units, or fractions 0.0 .. 1.0. Raises InferenceError.
    """
    if path.suffix.lower() == ".npy":
        return images_in_units(_npy_array(path), image_shape, scale, str(path))
    return _within(_png_pixels(str(path), None, image_shape, scale), image_shape, scale, str(path))


def png_image(content: bytes, image_shape: tuple[int, ...], scale: float, name: str) -> NDArray[np.float32]:
    """Return the image in the bytes of a PNG, float32 [1, D], as ``read_images``. name: in errors."""
    return _within(_png_pixels(name, content, image_shape, scale), image_shape, scale, name)


def images_in_units(array: Any, image_shape: tuple[int, ...], scale: float, name: str) -> NDArray[np.float32]:
    """Return an array as of a .npy file, float32 [N, D], as ``read_images``. name: in errors."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
        raise InferenceError(f"{name}: expected one array of numbers")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinite pixels are refused
            array = np.asarray(array, dtype=np.float64) * scale
    return _within(array, image_shape, scale, name)


def _within(pixels: Any, image_shape: tuple[int, ...], scale: float, name: str) -> NDArray[np.float32]:
    images = flat_images(pixels, image_shape, name)
    low, high = images.min() / scale, images.max() / scale
    if low < 0 or high > 1:
        raise InferenceError(
            f"{name}: pixels from {low:g} to {high:g} of the range, expected fractions from 0 to 1, "
            f"or whole numbers from 0 to {scale:g}"
        )
    return images


def flat_images(images: Any, image_shape: tuple[int, ...], name: str) -> NDArray[np.float32]:
    """Return images [N, ...], one image [...], [N, D] or [D] as float32 [N, D].

    name: of the images, in errors. Raises InferenceError on another size, NaN or infinity.
    """
    with np.errstate(over="ignore"):  # infinite pixels are refused
        array, num_dims = np.asarray(images, dtype=np.float32), len(image_shape)
    is_flat = array.ndim in (1, 2) and array.shape[-1] == math.prod(image_shape)
    is_image = array.ndim in (num_dims, num_dims + 1) and array.shape[-num_dims:] == image_shape
    if array.size == 0 or not (is_flat or is_image):
        found = " x ".join(map(str, array.shape)) or "1"
        raise InferenceError(f"{name}: found {found} pixels, the network takes {_words(image_shape)}")
    if not np.isfinite(array).all():
        raise InferenceError(f"{name}: pixels that are not finite numbers (NaN or infinite)")
    return array.reshape(-1, math.prod(image_shape))


def write_png(path: Path, image: NDArray[np.uint8], scale: float) -> None:
    """Write one image, uint8 [H, W] or [3, H, W] in 0 .. ``scale``, as a PNG."""
    stretched = np.round(image.astype(np.float64) * (PNG_MAX / scale)).astype(np.uint8)
    shown = stretched if image.ndim == 2 else np.ascontiguousarray(stretched.transpose(1, 2, 0))
    Image.fromarray(shown).save(path, format="PNG")


def _npy_array(path: Path) -> Any:
    """Return what a .npy file holds, mapped: its header can announce more than there is. Raises InferenceError."""
    try:
        found = path.stat()
        is_pipe = stat.S_ISFIFO(found.st_mode)
        if found.st_size <= MAX_NPY_BYTES and not is_pipe:
            with np.errstate(over="ignore"):  # of the sizes that it announces
                return np.load(path, mmap_mode="r", allow_pickle=False)
    # A damaged header raises almost anything.
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InferenceError(f"{path} cannot be read as .npy: {reason}") from error
    if is_pipe:
        raise InferenceError(f"{path} is a pipe, expected a .npy file")
    raise InferenceError(f"{path} has {found.st_size:,} bytes, expected at most {MAX_NPY_BYTES:,}; split it")


def _png_pixels(
    path: str, content: bytes | None, image_shape: tuple[int, ...], scale: float
) -> NDArray[np.float64]:
    is_grey = len(image_shape) == 2
    try:
        most = MAX_PIXELS if content is None else MAX_SENT_PIXELS
        image = decode(path, "L" if is_grey else "RGB", formats=("PNG",), content=content, max_pixels=most)
    except DataError as error:
        raise InferenceError(f"{error}; give a PNG or .npy file") from error
    if image.size[::-1] != image_shape[-2:]:
        found = _words(image.size[::-1])
        raise InferenceError(f"{path}: found {found} pixels, the network takes {_words(image_shape[-2:])}")
    pixels = np.asarray(image, dtype=np.float64)
    return (pixels if is_grey else pixels.transpose(2, 0, 1)) * (scale / PNG_MAX)


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
