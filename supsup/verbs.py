"""What the command line does, as functions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from core.errors import ConfigError
from orchestrator.compare.comparison import Comparison, compare_runs
from orchestrator.config.own_data import data_folder
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import open_run
from orchestrator.search.search import run_search
from orchestrator.search.settings import read_rows
from orchestrator.status import resolve_run
from orchestrator.sweep import run_sweep
from storage.locations import Location
from supsup.opened import Run
from supsup.progress import make_progress
from supsup.sweeps import load_sweep

Sweep = str | Path | Mapping[str, Any] | SweepConfig


def run(sweep: Sweep, *, quiet: bool = False, **settings: Any) -> Run:
    """Train what is missing of a sweep, evaluate it, and return its run; the same call resumes.

    sweep, settings: see ``load_sweep``. quiet: show no progress. Ctrl-C, or a notebook's stop, keeps finished tasks
    and checkpoints. Tasks that fail are in ``Run.failures``. Raises InputError before anything is written.
    """
    config = load_sweep(sweep, **settings)
    if config.search is not None:
        raise ConfigError(f"{config.name}: found a search, expected a single run; use supsup.search")
    result = run_sweep(config, data_folder(config.data_dir), make_progress(quiet=quiet))
    return Run(result.run)


def search(sweep: Sweep, *, quiet: bool = False, **settings: Any) -> pa.Table:
    """Run every setting of a search that is not settled yet; return a row for each.

    Arguments: as of ``run``. Raises InputError before anything is written.
    """
    config = load_sweep(sweep, **settings)
    if config.search is None:
        raise ConfigError(f"{config.name}: found a single run, expected a search; use supsup.run")
    run_search(config, data_folder(config.data_dir), make_progress(quiet=quiet))
    return pa.Table.from_pylist([asdict(row) for row in read_rows(config).values()])


def open(name: str | Location, storage: str | Location = "runs") -> Run:  # noqa: A001  # as in gzip.open
    """Return the run in a folder. Raises RunFolderError.

    name: a path, a URI of an object store, or the name of a run under ``storage``.
    """
    return Run(open_run(resolve_run(str(name), storage))[0])


def compare(
    runs: "Sequence[Run | str | Path]",
    *,
    by: str | Sequence[str] | None = None,
    over: str = "seed",
    scenario: str | Sequence[str] = (),
    k: int | Sequence[int] = (),
    storage: str | Location = "runs",
) -> Comparison:
    """Return finished runs compared: mean, spread over seeds, paired difference from the first group. Raises InputError.

    runs: as for ``open``; also searches. by: keys that make groups, all that differ by default. over: the key to
    average over. scenario, k: only these.
    """
    names = [str(run.folder) if isinstance(run, Run) else str(run) for run in runs]
    keys = [by] if isinstance(by, str) else by
    scenarios = [scenario] if isinstance(scenario, str) else scenario
    ks = [k] if isinstance(k, int) else k
    return compare_runs(names, by=keys, over=over, scenarios=scenarios, ks=ks, storage=storage)
