"""The user's own network: imported by its path, only if the user allows it. No torch."""

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import ConfigError, first_line

ALLOW_CODE = "SUPSUP_ALLOW_CODE"  # 1: the user's own network may be imported
Maker = Callable[[int, tuple[int, int, int]], Any]  # (outputs, image_shape) -> torch.nn.Module


def code_is_allowed() -> bool:
    """Return whether the user allowed importing their own network."""
    return os.environ.get(ALLOW_CODE) == "1"


def allow_code(folder: str | None = None) -> None:
    """Allow it in this process and its children; modules in ``folder`` are found as well."""
    os.environ[ALLOW_CODE] = "1"
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)


def require_allowed(import_path: str | None) -> None:
    """Raise ConfigError if the network is the user's own and must not be imported."""
    if import_path is not None and not code_is_allowed():
        raise ConfigError(
            f"network.import_path: {import_path} is your own code, which runs when it is imported; "
            f"allow that with `supsup --allow-code ...` or {ALLOW_CODE}=1"
        )


def find_maker(import_path: str) -> Maker:
    """Import ``package.file:name``, from the current folder too. Raises ConfigError."""
    require_allowed(import_path)
    allow_code(str(Path.cwd()))
    place, _, name = import_path.partition(":")
    try:
        found: Maker = getattr(importlib.import_module(place), name)
    # The user's code may raise anything when it is imported.
    except Exception as error:
        raise ConfigError(
            f"network.import_path: {import_path} cannot be imported ({type(error).__name__}: "
            f"{first_line(error)}); expected package.file:name, in the current folder or installed"
        ) from error
    return found


def code_digest(import_path: str) -> str:
    """Return the sha256 (hex) of the source file of the user's network. Raises ConfigError."""
    try:
        source = inspect.getsourcefile(find_maker(import_path))
    except TypeError:
        source = None
    if source is None:
        raise ConfigError(f"network.import_path: {import_path} has no Python source file to record")
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()
