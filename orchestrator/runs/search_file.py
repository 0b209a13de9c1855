"""``search.json``: the points of a search, the index of their run folders.

Folders are named relative to the storage that holds them and the search, so both can move together.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from core.errors import DamagedFileError, RunFolderError, first_line, plural
from orchestrator.config.search import Settings, Value, values_words
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import Run
from storage.json_file import read_json
from storage.locations import Location, listed, to_location

SEARCH_FILE = "search.json"
MAX_NAME_BYTES = 255  # of a file system
MAX_SHOWN = 6  # points in a message
ENDED_EARLY = {"num_tasks", "mean_accuracy"}  # the metrics of a point that ended early

State = Literal["done", "stopped", "failed", "left"]


@dataclass(frozen=True, kw_only=True)
class SearchRow:
    """A point as ``search.json`` has it. digest: of all that affects the result. rules: by which it ended early.

    Earlier versions wrote absolute folders; the name counts.
    """

    settings: Settings
    folder: str
    digest: str = ""
    state: State
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    rules: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a row that no search has."""
        if (
            self.name in ("", ".", "..")
            or not self.name.isprintable()
            or len(self.name.encode()) > MAX_NAME_BYTES
        ):
            raise ValueError(f"found folder {self.folder[:80]!r}, expected the name of a run folder")
        if self.state == "stopped" and not self.metrics.keys() >= ENDED_EARLY:
            raise ValueError("found a point that ended early without its metrics")

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """The content of ``search.json``. sweep: without its storage; None if an earlier version wrote the file."""

    sweep: dict[str, Any] | None = None
    space: dict[str, list[Value]] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    points: list[SearchRow]


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
    return folder.name if run.name in known_search(folder).runs else None


def read_search_file(folder: Location) -> SearchRecord:
    """Return the content of ``search.json``. Raises RunFolderError."""
    path = folder / SEARCH_FILE
    try:
        record = read_json(path, SearchRecord)
    except (OSError, DamagedFileError) as error:
        is_named = isinstance(error, DamagedFileError)
        found = str(error) if is_named else f"{path} cannot be read ({first_line(error)})"
        raise RunFolderError(f"{found}; running the search's sweep file writes it again") from error
    if not record.points:
        raise RunFolderError(f"{path} has no points; running the search's sweep file writes it again")
    return record


def known_search(folder: Location) -> SearchRecord:
    """Return the content of ``search.json``, without anything if it is missing or unreadable."""
    try:
        return read_search_file(folder)
    except RunFolderError:
        return SearchRecord(points=[])


def is_search(folder: Location) -> bool:
    """Return whether a folder is that of a search."""
    return (folder / SEARCH_FILE).is_file()


def find_searches(storage: str | Location) -> list[Location]:
    """Return the folders of searches in a storage folder, sorted by name."""
    return [path.parent for path in listed(to_location(storage), f"*/{SEARCH_FILE}")]


def read_points(folder: Location) -> tuple[Point, ...]:
    """Return the points of a search, whose folders lie beside its own. Raises RunFolderError."""
    rows = read_search_file(folder).points
    return tuple(Point(values=row.settings, root=folder.parent / row.name, state=row.state) for row in rows)


def one_point_words(folder: Location) -> str:
    """Return, for a command that takes one run, which runs a search has, as text."""
    points = read_points(folder)
    more = len(points) - MAX_SHOWN
    shown = ", ".join(map(str, points[:MAX_SHOWN])) + (f" and {more} more" if more > 0 else "")
    return (
        f"{folder} is a search of {plural(len(points), 'point')}, expected one run; give one of its points, "
        f"in {folder.parent}: {shown}"
    )
