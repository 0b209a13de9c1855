"""Runs the trials of a search with Ray Tune; the only file that imports it.

The trials follow from the sweep file and the run folders, so Tune's own files (pickles) are never
restored and go to a temporary folder. A trial holds one worker's CPUs and GPUs as a placement group
and starts no other actors, so trials cannot deadlock.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.config.search import SearchConfig
from orchestrator.search.trials import SettingEnd, Trial, TrialOutcome, run_trial

# Set before ray.tune is used: Ctrl-C ends this command at once; no result files; no progress tables.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler, MedianStoppingRule

TIME = "num_tasks"  # the schedulers' unit of time
METRIC = "mean_accuracy"

OnEnd = Callable[[Trial, TrialOutcome], None]


def run_trials(
    trials: Sequence[Trial],
    search: SearchConfig,
    data_folder: Path | None,
    on_end: OnEnd,
    *,
    num_workers: int,
    gpus_per_worker: float,
    threads_per_worker: int,
    retries: int,
) -> None:
    """Run all trials, ``num_workers`` at a time; a trial whose process dies is restarted. Ray must be there."""
    bundle = {"CPU": threads_per_worker, "GPU": gpus_per_worker}
    trainable = tune.with_parameters(
        _train, trials=list(trials), data_folder=data_folder, work_folder=str(Path.cwd())
    )
    held = tune.PlacementGroupFactory([{kind: number for kind, number in bundle.items() if number}])
    with tempfile.TemporaryDirectory(prefix="supsup-tune-") as folder, _quiet():
        tuner = tune.Tuner(
            tune.with_resources(trainable, held),
            param_space={"trial": tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",  # schedulers compare accuracies, whatever metric ranks the settings
                scheduler=_scheduler(search, max(trial.num_tasks for trial in trials)),
                # HyperBand pauses trials until their round is full, and paused ones count as concurrent.
                max_concurrent_trials=None if search.scheduler == "hyperband" else num_workers,
                reuse_actors=False,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=retries),
                callbacks=[_Ends(trials, on_end)],
            ),
        )
        tuner.fit()


def _train(
    config: dict[str, Any], *, trials: list[Trial], data_folder: Path | None, work_folder: str
) -> None:
    """Run one trial in a process of Tune's; the last report carries the results of its settings.

    work_folder: the base of the sweep's relative paths; Tune's working folder is temporary.
    """
    if Path(work_folder).is_dir():
        os.chdir(work_folder)
    trial, last = trials[config["trial"]], {TIME: 0, METRIC: 0.0}

    def report(num_tasks: int, mean_accuracy: float) -> None:
        last.update({TIME: num_tasks, METRIC: mean_accuracy})
        if num_tasks < trial.num_tasks:  # after the last task, stopping saves nothing
            tune.report({**last, "ends": None})

    ends = run_trial(trial, data_folder, report)
    tune.report({**last, "ends": [asdict(end) for end in ends]})


class _Ends(tune.Callback):  # type: ignore[misc]  # ray has no types
    """Calls ``on_end`` with the outcome of each trial."""

    def __init__(self, trials: Sequence[Trial], on_end: OnEnd) -> None:
        self._trials, self._on_end = trials, on_end

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks to restore them, which never happens here."""
        return {}

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        del iteration, trials, info
        result = trial.last_result or {}
        ends = result.get("ends")
        whole = self._trials[trial.config["trial"]]
        if ends is None:
            self._on_end(whole, (int(result.get(TIME, 0)), float(result.get(METRIC, 0.0))))
        else:
            self._on_end(whole, [SettingEnd(**end) for end in ends])

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        del iteration, trials, info
        if trial.status != "ERROR":  # Tune restarts it
            return
        lines = [line for line in str(trial.get_error() or "the trial was lost").splitlines() if line.strip()]
        self._on_end(self._trials[trial.config["trial"]], lines[-1])


def _scheduler(search: SearchConfig, num_tasks: int) -> Any:
    grace = min(search.grace_tasks or max(1, num_tasks // 10), num_tasks)
    if search.scheduler == "asha":
        return ASHAScheduler(
            time_attr=TIME, max_t=num_tasks + 1, grace_period=grace, reduction_factor=search.reduction_factor
        )
    if search.scheduler == "hyperband":
        return HyperBandScheduler(
            time_attr=TIME, max_t=num_tasks + 1, reduction_factor=search.reduction_factor
        )
    if search.scheduler == "median":
        return MedianStoppingRule(time_attr=TIME, grace_period=grace)
    return FIFOScheduler()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Tune's log: ``on_end`` reports what matters."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray.air")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
