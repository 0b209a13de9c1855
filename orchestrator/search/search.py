"""A search: many runs, several at a time, each resumable by itself.

The settings are computed from the sweep file each time, and those with a complete run folder are only
read: the same command resumes a search, and a new value adds only its own settings.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.data.datasets import load_dataset
from core.errors import ConfigError, plural
from orchestrator.cluster.launch import start_ahead
from orchestrator.cluster.resources import check_nodes, find_resources
from orchestrator.config.search import SearchConfig
from orchestrator.config.sweep import SweepConfig
from orchestrator.execution.ctrl_c import stop_taken
from orchestrator.execution.progress import Display
from orchestrator.report.text import left_out_words
from orchestrator.runs.search_file import State
from orchestrator.search.settings import (
    Setting,
    SettingResult,
    changes,
    plan_settings,
    search_config,
    settled,
    write_results,
)
from orchestrator.search.trials import Trial, TrialOutcome, group_settings, run_trial
from orchestrator.session import StoppedError
from orchestrator.tracking.registry import check_trackers


def run_search(config: SweepConfig, data_folder: Path | None, display: Display) -> list[SettingResult]:
    """Run the unfinished settings, show each result as it comes; return all in the settings' order."""
    _check(config)
    settings = plan_settings(config)
    check_trackers(settings[0].run)
    dataset = load_dataset(config.benchmark, data_folder)  # raises once, before anything runs
    left_out = left_out_words(dataset.left_out)
    if left_out is not None:
        display.message(left_out)
    results = _Results(config, settings, display, settled(config, settings))
    results.report_kept()
    results.write()
    left = [(index, setting) for index, setting in enumerate(settings) if index not in results.found]
    try:
        if left:
            _run(config, group_settings(left), data_folder, results)
    except KeyboardInterrupt:
        stop_taken()
        ended = f"{len(results.found)} of {plural(len(settings), 'point')} done and kept"
        raise StoppedError(f"stopped: {ended}; run it again to resume") from None
    results.write()
    return [results.found[index] for index in range(len(settings))]


def _check(config: SweepConfig) -> None:
    search = search_config(config)
    if search.scheduler != "fifo" and config.executor.kind == "inline":
        raise ConfigError(
            f"search.scheduler: found {search.scheduler!r}, expected 'fifo' for executor.kind: inline"
        )
    if search.scheduler != "fifo" and not config.training.is_given:
        raise ConfigError(
            f"search.scheduler: found {search.scheduler!r}, expected 'fifo': without task identity no task has an "
            "accuracy before the stream ends"
        )


class _Results:
    """The results so far by index of the setting, committed at each new one."""

    def __init__(
        self, config: SweepConfig, settings: list[Setting], display: Display, found: dict[int, SettingResult]
    ) -> None:
        self.found = found
        self.display = display
        self._config, self._settings = config, settings

    def report_kept(self) -> None:
        """Show how many settings need no run, and how the search space has changed."""
        changed, num_read = changes(self._config), len(self.found)
        if changed is not None:
            self.display.message(f"the search space has changed since the last run: {changed}")
        if num_read or changed is not None:
            num_left = len(self._settings) - num_read
            self.display.message(
                f"{num_read} of {plural(len(self._settings), 'point')} done and kept, {num_left} to run"
            )

    def trial_ended(self, trial: Trial, outcome: TrialOutcome) -> None:
        """Record the outcome of a trial."""
        if isinstance(outcome, list):
            for end in outcome:
                self._record(end.index, "done" if end.error is None else "failed", end.metrics, end.error)
            return
        for index, _ in trial.settings:
            if isinstance(outcome, str):
                self._record(index, "failed", {}, outcome)
            else:
                metrics = {"num_tasks": float(outcome[0]), "mean_accuracy": outcome[1]}
                self._record(index, "stopped", metrics, None)

    def report(self, end: tuple[Trial, TrialOutcome]) -> None:
        """Record a trial's outcome, as it comes from the process that runs Tune."""
        self.trial_ended(*end)

    def write(self) -> None:
        """Commit the results so far."""
        write_results(self._config, self._settings, self.found)

    def _record(self, index: int, state: State, metrics: dict[str, float], error: str | None) -> None:
        setting = self._settings[index]
        self.found[index] = SettingResult(setting=setting, state=state, metrics=metrics, error=error)
        self.display.message(
            f"{len(self.found)}/{len(self._settings)} {setting}: {_words(self.found[index])}"
        )
        self.write()


def _run(config: SweepConfig, trials: list[Trial], data_folder: Path | None, results: _Results) -> None:
    if config.executor.kind == "inline":
        for trial in trials:
            results.trial_ended(trial, run_trial(trial, data_folder, lambda *_: None))
        return
    resources = find_resources(config.executor, connect=True)
    if config.executor.address is not None:
        check_nodes(config.storage.uri, results.display)
    options = {
        "num_workers": min(resources.num_workers, len(trials)),
        "gpus_per_worker": resources.gpus_per_worker,
        "threads_per_worker": config.executor.threads_per_worker,
        "retries": config.executor.retries,
    }
    work = (trials, search_config(config), data_folder, options)
    with start_ahead(config, resources) as local:
        if local is None:
            _run_on_ray(results.report, *work)
        else:
            local.call("do", _run_on_ray, *work, on_report=results.report)


def _run_on_ray(
    report: Callable[[tuple[Trial, TrialOutcome]], None],
    trials: list[Trial],
    search: SearchConfig,
    data_folder: Path | None,
    options: dict[str, Any],
) -> None:
    """Run the trials where Ray is. report: called with each that has ended, and its outcome."""
    from orchestrator.search.tune import run_trials  # imports ray: only in the process that drives it

    run_trials(trials, search, data_folder, lambda *end: report(end), **options)


def _words(result: SettingResult) -> str:
    if result.error is not None:
        return f"failed: {result.error}"
    if result.state == "stopped":
        done, accuracy = result.metrics["num_tasks"], result.metrics["mean_accuracy"]
        return f"ended early after {plural(round(done), 'task')}, mean accuracy {100 * accuracy:.2f} %"
    accuracies = {key: value for key, value in result.metrics.items() if key.endswith("/accuracy")}
    return ", ".join(f"{key} {100 * value:.2f} %" for key, value in accuracies.items())
