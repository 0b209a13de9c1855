"""The trackers that there are, by name: ours, and those that installed packages bring as entry points."""

from importlib import import_module

from core.errors import ConfigError, first_line
from core.own_code.imports import find_code
from core.plugins import plugins
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


def known_trackers() -> dict[str, str]:
    """Return the import paths of all trackers by name; where a package takes a name of ours, ours counts."""
    return {**plugins(GROUP), **OURS}


def make_tracker(name: str, place: Place) -> Tracker:
    """Return the tracker of this name; it has written nothing yet. Raises ConfigError."""
    path = _find(name)
    try:
        return load_maker(path)(place)
    except ConfigError:
        raise
    except Exception as error:  # it may be somebody else's code
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"tracking.also: the tracker {name} ({path}) cannot be made: {reason}") from error


def load_maker(path: str) -> MakeTracker:
    """Import what makes a tracker; one that is not ours runs only if the user allows it. Raises ConfigError."""
    if path not in OURS.values():
        theirs: MakeTracker = find_code(OwnCode("tracking.also", path))
        return theirs
    module, _, name = path.partition(":")
    ours: MakeTracker = getattr(import_module(module), name)
    return ours


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


def _find(name: str) -> str:
    known = known_trackers()
    if name not in known:
        names = ", ".join(sorted(known.keys() - {MLFLOW}))
        raise ConfigError(
            f"tracking.also: found {name!r}, expected some of: {names}; others come with packages that have an entry "
            f"point {GROUP!r}"
        )
    return known[name]
