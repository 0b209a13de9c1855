"""The trackers that there are, by name: ours, and those that installed packages bring as entry points."""

from importlib.metadata import EntryPoint, entry_points

from core.errors import ConfigError, first_line
from core.own_code.imports import find_code
from core.specs.own_code import OwnCode
from orchestrator.config.store_uri import absolute_uri
from orchestrator.runs.run import Run
from orchestrator.tracking.base import MakeTracker, Place, Tracker

GROUP = "supsup.trackers"  # of entry points: a name, and a function from Place to Tracker
MLFLOW = "mlflow"  # chosen by ``tracking.uri``, the others by ``tracking.also``
OURS = {
    MLFLOW: "orchestrator.tracking.mlflow_pages:make",
    "tensorboard": "orchestrator.tracking.tensorboard_files:make",
    "wandb": "orchestrator.tracking.wandb_files:make",
}


def known_trackers() -> dict[str, EntryPoint]:
    """Return all trackers by name; where a package takes a name of ours, ours counts."""
    ours = (EntryPoint(name, value, GROUP) for name, value in OURS.items())
    return {one.name: one for one in (*entry_points(group=GROUP), *ours)}


def make_tracker(name: str, place: Place) -> Tracker:
    """Return the tracker of this name; it has written nothing yet. Raises ConfigError."""
    entry = _find(name)
    try:
        return _maker(name, entry)(place)
    except ConfigError:
        raise
    except Exception as error:  # it may be somebody else's code
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(
            f"tracking.also: the tracker {name} ({entry.value}) cannot be made: {reason}"
        ) from error


def _maker(name: str, entry: EntryPoint) -> MakeTracker:
    """Load a tracker; one that is not ours runs only if the user allows it. Raises ConfigError."""
    if name in OURS:
        ours: MakeTracker = entry.load()
        return ours
    found: MakeTracker = find_code(OwnCode("tracking.also", entry.value))
    return found


def chosen_trackers(run: Run) -> dict[str, Tracker]:
    """Return the trackers of ``tracking.also``, by name. Raises ConfigError."""
    return {name: make_tracker(name, place_of(run, name)) for name in run.config.tracking.also or ()}


def check_trackers(run: Run) -> None:
    """Raise ConfigError unless all trackers of a run can be made here."""
    chosen_trackers(run)


def place_of(run: Run, name: str) -> Place:
    """Return where a tracker may keep what it shows of a run."""
    uri = run.config.tracking.uri
    return Place(folder=run.layout.tracker(name), uri=None if uri is None else absolute_uri(uri))


def _find(name: str) -> EntryPoint:
    known = known_trackers()
    if name not in known:
        names = ", ".join(sorted(known.keys() - {MLFLOW}))
        raise ConfigError(
            f"tracking.also: found {name!r}, expected some of: {names}; others come with packages that have an entry "
            f"point {GROUP!r}"
        )
    return known[name]
