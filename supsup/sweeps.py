"""Sweeps from Python: a file, the values of one, or one of those that come with the package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.cli.common import find_sweep
from orchestrator.config import load
from orchestrator.config.sweep import SweepConfig

GIVEN = "the sweep given"


def load_sweep(sweep: "str | Path | Mapping[str, Any] | SweepConfig", **settings: Any) -> SweepConfig:
    """Return a checked sweep.

    sweep: the path of a sweep file, the name or folder of a run, the name of a sweep that comes with supsup, the values of a sweep file as a mapping, or a
    sweep. settings: new values by key: ``seed=1``, ``num_tasks=5`` (the last part of a key that is the only one
    of its name), or ``**{"training.steps": 200}``. Raises ConfigError or RunFolderError.
    """
    config = _loaded(sweep)
    if not settings:
        return config
    known = load.dotted_keys(load.config_values(config))
    return load.set_keys(
        config, {load.full_key(name, known): value for name, value in settings.items()}, GIVEN
    )


def _loaded(sweep: "str | Path | Mapping[str, Any] | SweepConfig") -> SweepConfig:
    if isinstance(sweep, SweepConfig):
        return sweep
    if isinstance(sweep, Mapping):
        return load.build_sweep(dict(sweep), GIVEN)
    return find_sweep(str(sweep), [], None)
