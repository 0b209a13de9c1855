"""A search: many runs, several at a time, each resumable by itself.

The points are computed from the sweep file each time. One whose run folder is whole is read, not
run; so the same command after a kill goes on, and a new value adds only its points.
"""

from pathlib import Path

from core.data.datasets import load_dataset
from core.errors import ConfigError
from orchestrator.cluster.resources import check_nodes, find_resources
from orchestrator.config.sweep import SweepConfig
from orchestrator.execution.progress import Display
from orchestrator.search.points import (
    Point,
    PointResult,
    State,
    changes,
    plan_points,
    settled,
    write_results,
)
from orchestrator.search.trials import PointEnd, Trial, group_points, run_trial
from orchestrator.session import StoppedError


def run_search(config: SweepConfig, data_folder: Path | None, display: Display) -> list[PointResult]:
    """Run what is left of every point, tell of each as it ends; results in the points' order."""
    _check(config)
    points = plan_points(config)
    load_dataset(config.benchmark, data_folder)  # what is missing is said once, before anything runs
    results = _Results(config, points, display, settled(config, points))
    results.say_what_is_there()
    results.write()
    left = [(index, point) for index, point in enumerate(points) if index not in results.found]
    try:
        if left:
            _run(config, group_points(left), data_folder, results)
    except KeyboardInterrupt:
        ended = f"{len(results.found)} of {len(points)} points have ended"
        raise StoppedError(f"stopped: {ended} and are kept; the same command goes on from there") from None
    results.write()
    return [results.found[index] for index in range(len(points))]


def _check(config: SweepConfig) -> None:
    search = config.search
    assert search is not None, "a search has a space"
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
    """What is known of each point, by index; committed whenever one ends."""

    def __init__(
        self, config: SweepConfig, points: list[Point], display: Display, found: dict[int, PointResult]
    ) -> None:
        self.found = found
        self.display = display
        self._config, self._points = config, points

    def say_what_is_there(self) -> None:
        """Tell of points that need no run, and of a space that has changed."""
        changed, num_read = changes(self._config), len(self.found)
        if changed is not None:
            self.display.message(f"the search space has changed since the last run: {changed}")
        if num_read or changed is not None:
            num_left = len(self._points) - num_read
            self.display.message(
                f"{num_read} of {len(self._points)} points are there and kept, {num_left} to run"
            )

    def trial_ended(self, trial: Trial, came_to: list[PointEnd] | tuple[int, float] | str) -> None:
        """Note how a trial ended: its points' ends, or tasks and accuracy where it was ended early."""
        if isinstance(came_to, list):
            for end in came_to:
                self._note(end.index, "done" if end.error is None else "failed", end.metrics, end.error)
            return
        for index, _ in trial.points:
            if isinstance(came_to, str):
                self._note(index, "failed", {}, came_to)
            else:
                metrics = {"num_tasks": float(came_to[0]), "mean_accuracy": came_to[1]}
                self._note(index, "stopped", metrics, None)

    def write(self) -> None:
        """Commit what is known."""
        write_results(self._config, self._points, [self.found[index] for index in sorted(self.found)])

    def _note(self, index: int, state: State, metrics: dict[str, float], error: str | None) -> None:
        point = self._points[index]
        self.found[index] = PointResult(point=point, state=state, metrics=metrics, error=error)
        self.display.message(f"{len(self.found)}/{len(self._points)} {point}: {_words(self.found[index])}")
        self.write()


def _run(config: SweepConfig, trials: list[Trial], data_folder: Path | None, results: _Results) -> None:
    if config.executor.kind == "inline":
        for trial in trials:
            results.trial_ended(trial, run_trial(trial, data_folder, lambda *_: None))
        return
    from orchestrator.search.tune import run_trials  # imports ray: only when there is work

    assert config.search is not None, "a search has a space"
    resources = find_resources(config.executor, connect=True)
    if config.executor.address is not None:
        check_nodes(config.storage.uri, results.display)
    run_trials(
        trials,
        config.search,
        data_folder,
        results.trial_ended,
        num_workers=min(resources.num_workers, len(trials)),
        gpus_per_worker=resources.gpus_per_worker,
        threads_per_worker=config.executor.threads_per_worker,
        retries=config.executor.retries,
        address=config.executor.address,
    )


def _words(result: PointResult) -> str:
    if result.error is not None:
        return f"failed: {result.error}"
    if result.state == "stopped":
        done, accuracy = result.metrics["num_tasks"], result.metrics["mean_accuracy"]
        return f"ended early after {done:.0f} tasks, mean accuracy {100 * accuracy:.2f} %"
    accuracies = {key: value for key, value in result.metrics.items() if key.endswith("/accuracy")}
    return ", ".join(f"{key} {100 * value:.2f} %" for key, value in accuracies.items())
