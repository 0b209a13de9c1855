"""The sweep stored in a run folder, for resuming without its sweep file."""

import dataclasses
from collections.abc import Sequence

from core.errors import ConfigError, RunFolderError
from orchestrator.config.load import change_settings, set_keys
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.dataset import require_data_code, require_method_code
from orchestrator.runs.nearest import changed_keys
from orchestrator.runs.run import locate_run, open_run, require_run_code
from storage.locations import Location, location_uri


def stored_sweep(root: Location, settings: Sequence[str]) -> SweepConfig:
    """Return the sweep of a run folder, with ``key=value`` settings, that resumes in the same folder.

    Raises ConfigError for settings that make another run, RunFolderError for a folder that cannot be resumed.
    """
    opened, record = open_run(root)
    require_run_code(opened)
    require_data_code(opened, record)
    require_method_code(opened)
    here = set_keys(opened.config, {"storage.uri": location_uri(opened.layout.root.parent)}, str(root))
    config = change_settings(here, settings, [field.name for field in dataclasses.fields(SweepConfig)])
    changes = _changes(here, config)
    if changes:
        raise ConfigError(
            f"{', '.join(changes)}: would make another run, not this one ({root}); use a sweep file for that"
        )
    expected = locate_run(config).layout.root
    if expected != opened.layout.root:
        raise RunFolderError(
            f"{root}: would continue as {expected.name}; the folder was renamed, or made by an earlier version of supsup"
        )
    return config


def _changes(old: SweepConfig, new: SweepConfig) -> list[str]:
    """Return the settings that lead to another folder, or to a search."""
    pairs = {
        "name": (old.name, new.name),
        "storage.uri": (old.storage.uri, new.storage.uri),
        "search": (old.search, new.search),
    }
    return [*changed_keys(old, new), *(key for key, (before, after) in pairs.items() if before != after)]
