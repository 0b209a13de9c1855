"""The packages of this project, which keep their names beside folders of the user's that have the same.

A folder of the user's with packages or modules of these names may come first on Python's path: it does for scripts, for
notebooks, and on workers. So every process that this project starts imports its own packages before anything else
(``python``), and the package supsup does. Modules within such a package of the user's can still be imported, as long as
we have none of that name (``share_names``).
"""

import sys
from pathlib import Path

ROOMS = ("core", "storage", "orchestrator")
PROJECT = Path(__file__).resolve().parents[1]  # the folder of the rooms
_FIRST = "import sys; sys.path.insert(0, {folder!r}); import core, storage, orchestrator; del sys.path[0]; "


def python(code: str, *words: str) -> list[str]:
    """Return the command that runs ``code`` in a Python like this one, with our packages."""
    return [sys.executable, "-P", "-c", _FIRST.format(folder=str(PROJECT)) + code, *words]


def share_names(folder: Path) -> None:
    """Let modules in packages of the user's be imported that have the name of one of ours, after our own modules."""
    for room in ROOMS:
        package, path = folder / room, sys.modules[room].__path__ if room in sys.modules else []
        if package.is_dir() and folder.resolve() != PROJECT and str(package) not in path:
            path.append(str(package))


def namesakes(folder: Path) -> list[Path]:
    """Return the packages and modules in a folder that have the name of one of ours."""
    if folder.resolve() == PROJECT:
        return []
    found = [folder / name for room in ROOMS for name in (room, f"{room}.py")]
    return [path for path in found if path.exists()]
