"""The promises of a tracker: everything once, after crashes, failed calls and growth."""

from core.errors import ConfigError
from core.specs.own_code import code_path
from orchestrator.checks import CheckOptions
from orchestrator.tracking.conformance import CHECKS, ReadableTracker, check_tracker
from orchestrator.tracking.registry import GROUP, OURS, known_trackers, load_maker


def check_own_tracker(name: str, options: CheckOptions) -> list[str]:
    """Check a tracker. name: as in ``tracking.also``, or ``package.file:name``. Raises ConfigError and BreachError."""
    del options
    path = OURS.get(name) or code_path(name, GROUP)
    if path is None:
        known = ", ".join(sorted(known_trackers()))
        raise ConfigError(f"check: found tracker {name!r}, expected package.file:name, or one of: {known}")
    make = load_maker(path)
    check_tracker(make)
    readable = issubclass(make, ReadableTracker) if isinstance(make, type) else hasattr(make, "points")
    contents = (
        "what it shows was compared" if readable else "what it shows was not compared: it has no points()"
    )
    return [f"it kept its promises in {len(CHECKS)} situations; {contents}"]
