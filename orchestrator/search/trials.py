"""One trial of a search: the settings that share a run folder, run one after another in this process.

Settings that differ in what is evaluated only, or in the number of tasks, have the same masks: one
run folder, trained once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import SupSupError, first_line
from orchestrator.execution.jobs import Job, JobResult
from orchestrator.search.settings import Setting, metrics_at_last_k
from storage.mask_store import MaskStore

# Takes the tasks trained so far and the mean of their accuracies, as each cohort ends.
Report = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings, by their index in the search, that share a run folder."""

    settings: tuple[tuple[int, Setting], ...]

    @property
    def num_tasks(self) -> int:
        """The most tasks of any of its settings."""
        return max(setting.config.benchmark.num_tasks for _, setting in self.settings)


@dataclass(frozen=True, kw_only=True)
class SettingEnd:
    """What running a setting came to. index: of the setting in the search."""

    index: int
    metrics: dict[str, float]
    error: str | None


def group_settings(settings: Sequence[tuple[int, Setting]]) -> list[Trial]:
    """Return the trials of (index, setting), in the order of their first settings."""
    by_folder: dict[str, list[tuple[int, Setting]]] = {}
    for index, setting in settings:
        by_folder.setdefault(str(setting.layout.root), []).append((index, setting))
    return [Trial(settings=tuple(group)) for group in by_folder.values()]


def run_trial(trial: Trial, data_folder: Path | None, report: Report) -> list[SettingEnd]:
    """Run each setting of a trial from start to end; what is there already is not run again."""
    return [_run_setting(index, setting, data_folder, report) for index, setting in trial.settings]


def _run_setting(index: int, setting: Setting, data_folder: Path | None, report: Report) -> SettingEnd:
    from orchestrator.sweep import run_sweep  # imports torch: only where runs go on

    executor = replace(setting.config.executor, kind="inline", workers=1, address=None)
    config = replace(setting.config, executor=executor)
    try:
        result = run_sweep(config, data_folder, _Progress(setting.run.store, report))
    except SupSupError as error:
        return SettingEnd(index=index, metrics={}, error=str(error))
    failed = [f"{failure.job}: {first_line(failure.error)}" for failure in result.failures]
    metrics = metrics_at_last_k(result.run, result.results)
    return SettingEnd(index=index, metrics=metrics, error="; ".join(failed) or None)


class _Progress:
    """A display that nobody sees: it reports the mean accuracy so far, tasks of before included."""

    def __init__(self, store: MaskStore, report: Report) -> None:
        self._store, self._report = store, report
        self._accuracies: list[float] = []

    def start(
        self, verb: str, num_total: int, num_done: int, unit: str = "tasks", *, num_jobs: int = 0
    ) -> None:
        """Begin a phase; before training, take what is known of the tasks that are there."""
        del num_total, num_done, unit, num_jobs
        if verb == "training":
            self._accuracies = self._store.info_table()["test_accuracy"].to_pylist()

    def advance(self, job: Job, result: JobResult) -> None:
        """Report after a cohort."""
        del job
        self._accuracies += [task.test_accuracy for task in result.reports]
        if result.reports:
            self._report(len(self._accuracies), sum(self._accuracies) / len(self._accuracies))

    def count(self, num_done: int) -> None:
        """Show nothing."""

    def failed(self, num_tasks: int) -> None:
        """Show nothing."""

    def workers(self, num_busy: int, num_ready: int) -> None:
        """Show nothing."""

    def message(self, text: str) -> None:
        """Say nothing: trials have no terminal."""

    def stop(self) -> None:
        """Have nothing to take down."""
