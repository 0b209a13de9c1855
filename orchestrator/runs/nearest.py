"""Which setting makes a new run: compares a sweep with the most similar run of the same name."""

import json
from dataclasses import dataclass
from typing import Any

from core.errors import ConfigError, RunFolderError
from orchestrator.config.load import build_sweep, config_values, dotted_keys
from orchestrator.config.sweep import SweepConfig, fingerprint
from storage.layout import RunLayout, run_folder_name
from storage.locations import Location, listed, to_location
from storage.run_file import read_run

MAX_SHOWN = 6  # differing keys in a message


@dataclass(frozen=True, kw_only=True)
class _Other:
    """Another run of the same name. changes: differing keys, as text. created_s: Unix time."""

    name: str
    num_tasks: int
    changes: tuple[str, ...]
    created_s: float

    def __str__(self) -> str:
        which = f"{self.name} ({self.num_tasks} tasks)"
        if not self.changes:
            return f"{which} has the same settings, but was made by another version of supsup"
        more = len(self.changes) - MAX_SHOWN
        shown = ", ".join(self.changes[:MAX_SHOWN]) + (f" and {more} more keys" if more > 0 else "")
        return f"differs from {which} in {shown}"


def new_run_note(config: SweepConfig) -> str | None:
    """Return how a new run differs from the nearest one of its name and storage.

    None if the run exists, or is the first of its name. Nearest: the fewest keys differ, then the newest.
    """
    storage = to_location(config.storage.uri)
    if RunLayout(storage / run_folder_name(config.name, fingerprint(config.run_spec()))).run_file.exists():
        return None
    pattern = run_folder_name(config.name, "?" * 8)
    others = [_other(path.parent, config) for path in listed(storage, f"{pattern}/run.json")]
    nearest = min(filter(None, others), key=lambda one: (len(one.changes), -one.created_s), default=None)
    return None if nearest is None else f"new run; {nearest}"


def changed_keys(old: SweepConfig, new: SweepConfig) -> tuple[str, ...]:
    """Return the keys that make ``new`` another run than ``old``, such as ``training.steps: 60 -> 20``."""
    before, after = deciding_keys(old), deciding_keys(new)
    old_values, new_values = dotted_keys(config_values(old)), dotted_keys(config_values(new))
    return tuple(
        f"{key}: {_text(old_values.get(key))} -> {_text(new_values.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def deciding_keys(config: SweepConfig) -> dict[str, Any]:
    """Return the values that the fingerprint covers, by dotted key."""
    keys = dotted_keys(config.run_spec().canonical())
    if config.training.is_given:
        del keys["benchmark.num_tasks"]
    return keys


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _other(root: Location, config: SweepConfig) -> _Other | None:
    """Return a run folder compared with ``config``, None if it is unreadable."""
    try:
        record = read_run(RunLayout(root))
        old = build_sweep(record.config, str(root))
    except (ConfigError, RunFolderError):
        return None
    return _Other(
        name=root.name,
        num_tasks=record.num_tasks,
        changes=changed_keys(old, config),
        created_s=record.created_s,
    )
