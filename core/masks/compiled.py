"""numba's compiler, which keeps what it compiled wherever this machine lets it."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

_FunctionCache: Any = FunctionCache  # numba has no types
TEMPORARY = f"supsup-numba-{os.getuid()}"


def compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles with ``numba.njit(**options)`` and keeps the result.

    numba keeps it beside the source or in the user's home. Where neither can be written, a temporary folder
    takes their place; if there is none, every process compiles for itself.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        made = numba.njit(**options)(function)
        cache = _cache(function)
        if cache is not None:
            made._cache = cache  # noqa: SLF001  # as enable_caching, which takes no cache of others
        return made

    return compiled


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Keeps what can be kept: a full disk or a file that was cut off costs a compilation and nothing else."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(Exception):  # whatever unpickling raises
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:
            pass  # no space left
        except Exception:  # the index cannot be read: begin a new one
            with suppress(OSError):
                self.flush()
                super().save_overload(sig, data)


def _cache(function: Callable[..., Any]) -> Any:
    """Return a place for what is compiled, None if there is none."""
    try:
        return _Cache(function)
    except RuntimeError:  # no place to keep it
        folder = _private_folder(Path(tempfile.gettempdir()) / TEMPORARY)
    if folder is None:
        return None
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]  # numba sets them at import
    return _Cache(function)


def _private_folder(path: Path) -> Path | None:
    """Return the folder, made if it is missing; None if it is not ours alone, as its files are executed."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return path if is_ours and os.access(path, os.W_OK) else None
