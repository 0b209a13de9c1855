"""``search.json``: the runs of a search."""

import json
from typing import Any

from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import Run
from storage.locations import Location, to_location

SEARCH_FILE = "search.json"


def search_folder(config: SweepConfig) -> Location:
    """Return the folder for tables and figures over all runs of a search."""
    return to_location(config.storage.uri) / f"{config.name}-search"


def search_of(run: Run) -> str | None:
    """Return the name of the search that a run belongs to, according to ``search.json``, or None."""
    folder = run.layout.root.parent / search_folder(run.config).name
    return folder.name if run.name in read_search_file(folder).get("runs", []) else None


def read_search_file(folder: Location) -> dict[str, Any]:
    """Return the content of ``search.json``, empty if it is missing or unreadable."""
    try:
        content = json.loads((folder / SEARCH_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
