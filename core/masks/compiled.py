"""numba's compiler, which keeps what it compiled wherever this machine lets it."""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

TEMPORARY = f"supsup-numba-{os.getuid()}"


def compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles with ``numba.njit(**options)`` and keeps the result.

    numba keeps it beside the source or in the user's home. Where neither can be written, a temporary folder
    takes their place; if there is none, every process compiles for itself.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(**options, cache=True)(function)
        except RuntimeError:  # no place to keep it
            folder = _private_folder(Path(tempfile.gettempdir()) / TEMPORARY)
        if folder is None:
            return numba.njit(**options)(function)
        numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]  # numba sets them at import
        return numba.njit(**options, cache=True)(function)

    return compiled


def _private_folder(path: Path) -> Path | None:
    """Return the folder, made if it is missing; None if it is not ours alone, as its files are executed."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return path if is_ours and os.access(path, os.W_OK) else None
