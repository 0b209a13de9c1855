"""The folder of a local Ray, with its logs, sockets and what it moves out of memory: private, and of a short path.

The address of a socket has room for 107 bytes on Linux and 103 on macOS, of which Ray's names below the folder take 64.
"""

import os
import tempfile
from pathlib import Path

from core.errors import ConfigError

MAX_BYTES = 103 - 64
OPEN = "r"  # Ray opens its folder to everybody, so it gets one within a private one
SHORT = "/tmp"  # noqa: S108  # a folder in it is private


def make_ray_folder() -> Path:
    """Make a private folder for one Ray, with its ``OPEN`` one.

    It lies in RAY_TMPDIR or the temporary folder, or in /tmp if their paths are too long. Raises ConfigError.
    """
    named, reason = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "its path is too long"
    for parent in (Path(named).absolute(), Path(SHORT)):
        if len(os.fsencode(parent)) + len("/supsup-12345678/r") > MAX_BYTES:
            continue
        try:
            return _make_in(parent)
        except OSError as error:
            reason = str(error.strerror)
    raise ConfigError(
        f"no folder for Ray: {named} cannot be used ({reason}); set RAY_TMPDIR to a folder that can be written"
    )


def _make_in(parent: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="supsup-", dir=parent))  # of mode 0700
    (folder / OPEN).mkdir()
    return folder
