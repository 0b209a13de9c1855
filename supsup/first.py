"""Imports our packages under their names, whatever comes first on Python's path; see ``core.rooms``."""

import sys
from importlib import import_module
from pathlib import Path

ROOMS = ("core", "storage", "orchestrator")  # nothing can be imported from them yet
HOME = Path(__file__).resolve().parents[1]


def claim_names() -> None:
    """Import our packages. Raises ImportError if others of their names were imported before."""
    for room in ROOMS:
        other = getattr(sys.modules.get(room), "__file__", None)
        if room in sys.modules and (other is None or Path(other).resolve().parent != HOME / room):
            raise ImportError(
                f"{other or room} has the name of a package of supsup and was imported before it; "
                "import supsup first, or rename the file"
            )
    sys.path.insert(0, str(HOME))
    try:
        for room in ROOMS:
            import_module(room)
    finally:
        sys.path.remove(str(HOME))
