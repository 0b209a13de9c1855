"""One trial of a search: the settings that share a run folder, run one after another in this process.

Settings that differ only in evaluation or in the number of tasks share their masks, trained once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from core.errors import SupSupError, first_line
from orchestrator.execution.jobs import Job, JobResult
from orchestrator.execution.progress import Display
from orchestrator.runs.run import Run
from orchestrator.search.settings import Setting, metrics_at_last_k
from orchestrator.stages import training_stage

# Takes the number of tasks trained so far and their mean accuracy, as each cohort ends.
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
    """The result of running a setting. index: of the setting in the search."""

    index: int
    metrics: dict[str, float]
    error: str | None


# The results of a trial's settings; or number of tasks and mean accuracy, if ended early; or its error.
TrialOutcome = list[SettingEnd] | tuple[int, float] | str


def group_settings(settings: Sequence[tuple[int, Setting]]) -> list[Trial]:
    """Return the trials of (index, setting), in the order of their first settings."""
    by_folder: dict[str, list[tuple[int, Setting]]] = {}
    for index, setting in settings:
        by_folder.setdefault(str(setting.layout.root), []).append((index, setting))
    return [Trial(settings=tuple(group)) for group in by_folder.values()]


def run_trial(trial: Trial, data_folder: Path | None, report: Report) -> list[SettingEnd]:
    """Run each setting of a trial to its end, resuming stored work."""
    return [_run_setting(index, setting, data_folder, report) for index, setting in trial.settings]


def _run_setting(index: int, setting: Setting, data_folder: Path | None, report: Report) -> SettingEnd:
    from orchestrator.session import StoppedError
    from orchestrator.sweep import run_sweep  # imports torch

    executor = replace(setting.config.executor, kind="inline", workers=1, address=None)
    config = replace(setting.config, executor=executor)
    try:
        result = run_sweep(config, data_folder, _Reporter(setting.run, report))
    except StoppedError:
        raise  # the whole search is to stop, not this setting alone
    except SupSupError as error:
        return SettingEnd(index=index, metrics={}, error=str(error))
    failed = [f"{failure.job}: {first_line(failure.error)}" for failure in result.failures]
    failed = failed or [str(gap) for gap in result.gaps if not gap.is_allowed]
    metrics = metrics_at_last_k(result.run, result.results)
    return SettingEnd(index=index, metrics=metrics, error="; ".join(failed) or None)


class _Reporter(Display):
    """Shows nothing; reports the mean accuracy so far, earlier sessions included."""

    def __init__(self, run: Run, report: Report) -> None:
        self._run, self._report = run, report

    def on_result(self, job: Job, result: JobResult) -> None:
        """Report after tasks were trained."""
        del job
        if result.reports:
            self._accuracies.update({report.task: report.test_accuracy for report in result.reports})
            known = [accuracy for accuracy in self._accuracies.values() if accuracy is not None]
            self._report(len(self._accuracies), sum(known) / len(known))

    @cached_property
    def _accuracies(self) -> dict[int, float | None]:
        """Accuracy of each trained task; None if it is not stored."""
        stage = training_stage(self._run.config)
        stored = stage.accuracies(self._run)
        return {task: stored.get(task) for task in sorted(stage.progress(self._run).done)}
