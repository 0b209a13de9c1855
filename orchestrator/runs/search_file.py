"""``search.json``: the points of a search, the index of their run folders.

Folders are named relative to the storage that holds them and the search, so both can move together.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import RunFolderError, plural
from orchestrator.config.search import Settings, values_words
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import Run
from storage.locations import Location, listed, to_location

SEARCH_FILE = "search.json"
MAX_SHOWN = 6  # points in a message

State = Literal["done", "stopped", "failed", "left"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A row of ``search.json``: one point of a search when its results were last written.

    values: of the varied keys. root: its run folder, which need not exist. state: ``stopped`` if ended
    early, ``left`` until it has run.
    """

    values: Settings
    root: Location
    state: State

    def __str__(self) -> str:
        return f"{self.root.name} ({values_words(self.values)})"


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
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def is_search(folder: Location) -> bool:
    """Return whether a folder is that of a search."""
    return (folder / SEARCH_FILE).is_file()


def find_searches(storage: str | Location) -> list[Location]:
    """Return the folders of searches in a storage folder, sorted by name."""
    return [path.parent for path in listed(to_location(storage), f"*/{SEARCH_FILE}")]


def read_points(folder: Location) -> tuple[Point, ...]:
    """Return the points of a search. Raises RunFolderError.

    Earlier versions wrote absolute folders; the name counts, beside the folder of the search.
    """
    try:
        return tuple(
            Point(
                values=row["settings"],
                root=folder.parent / str(row["folder"]).rpartition("/")[2],
                state=row["state"],
            )
            for row in read_search_file(folder)["points"]
        )
    except (KeyError, TypeError) as error:
        path = folder / SEARCH_FILE
        raise RunFolderError(
            f"{path} cannot be read; running the search's sweep file writes it again"
        ) from error


def one_point_words(folder: Location) -> str:
    """Return, for a command that takes one run, which runs a search has, as text."""
    points = read_points(folder)
    more = len(points) - MAX_SHOWN
    shown = ", ".join(map(str, points[:MAX_SHOWN])) + (f" and {more} more" if more > 0 else "")
    return (
        f"{folder} is a search of {plural(len(points), 'point')}, expected one run; give one of its points, "
        f"in {folder.parent}: {shown}"
    )
