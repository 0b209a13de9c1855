"""Decodes image files, for folders of images and for single images alike."""

from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError, first_line

MAX_PIXELS = 89_478_485  # Pillow warns beyond it; decoded, 270 MB in colour
WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")  # how Pillow names grey images of 16 bits
WIDE_TO_BYTE = 257  # 65535 / 255


def decode(
    path: str | PathLike[str],
    mode: str,
    formats: tuple[str, ...] | None = None,
    *,
    content: bytes | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Any:
    """Return an image file as a Pillow image of ``mode``, ``RGB`` or ``L``; 16 bits are scaled to 8.

    formats: those that are accepted, None for all. content: of the file; ``path`` is then only its name in
    errors. max_pixels: above, nothing is decoded. Raises DataError, naming the file.
    """
    from PIL import Image, UnidentifiedImageError

    too_large = Image.DecompressionBombWarning, Image.DecompressionBombError
    try:
        if content is None:
            _refuse_pipe(path)
        with Image.open(path if content is None else BytesIO(content), formats=formats) as image:
            _check_size(path, *image.size, max_pixels)
            return _bytes(path, image).convert(mode)
    except DataError:
        raise
    except too_large as error:
        raise DataError(f"{path} is too large ({first_line(error)}); make it smaller or remove it") from error
    except UnidentifiedImageError as error:
        expected = "an image" if formats is None else f"a {' or '.join(formats)} image"
        raise DataError(f"{path} cannot be read: not {expected}") from error
    # Decoders of damaged files raise almost anything.
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{path} cannot be read: {reason}") from error


def _refuse_pipe(path: str | PathLike[str]) -> None:
    if Path(path).is_fifo():
        raise DataError(f"{path} is a pipe, expected an image file")


def _check_size(path: str | PathLike[str], width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DataError(
            f"{path} has {width:,} x {height:,} pixels, expected at most {max_pixels:,} in all; "
            "make it smaller or remove it"
        )


def _bytes(path: str | PathLike[str], image: Any) -> Any:
    """Return an image with 8 bits per channel; Pillow's own conversion cuts 16 bits off at 255."""
    from PIL import Image

    is_wide = image.mode in WIDE_MODES and (image.mode != "I" or image.format == "PNG")
    if is_wide:
        wide = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.round(wide / WIDE_TO_BYTE).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{path} has pixels of 32 bits, expected 8 or 16 bits; save it as such")
    return image


def to_array(image: Any) -> Any:
    """Return a Pillow image as uint8 [height, width], or [height, width, 3] unless it is grey. Raises DataError."""
    grey = image.mode in ("1", "L", "LA", "I", "F") or image.mode in WIDE_MODES
    return np.asarray(_bytes("an image", image).convert("L" if grey else "RGB"))
