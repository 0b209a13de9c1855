"""``supsup run``: train what is missing, evaluate, report; the same call resumes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.datasets import Dataset, load_dataset
from core.errors import SupSupError, first_line
from orchestrator.config import SweepConfig
from orchestrator.controller import Failure, RetryPolicy, run_jobs
from orchestrator.display import Display
from orchestrator.executors import Executor
from orchestrator.failures import write_failures
from orchestrator.jobs import Job, JobResult
from orchestrator.launch import make_executor
from orchestrator.plan import Plan, plan_jobs
from orchestrator.provenance import package_version
from orchestrator.report import stored_counts, write_evaluations, write_report
from orchestrator.resources import find_resources
from orchestrator.run_folder import (
    Resources,
    Run,
    clean_temporaries,
    config_values,
    ensure_record,
    locate_run,
    locked,
)
from orchestrator.tracked import TrackedEnd, TrackedRun, absolute_uri, sqlite_path
from orchestrator.tracking import Tracker, flat_params, known_reports, make_tracker
from storage.run_file import RunRecord
from storage.verify import Verdict, quarantine, verify_masks


class StoppedError(SupSupError):
    """The user stopped the run; what was finished is kept."""

    exit_code = 130


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a run came to. accuracies: GG by k, fractions. facts: one row per task."""

    run: Run
    num_trained: int
    failures: tuple[Failure, ...]
    accuracies: dict[int, float]
    facts: list[dict[str, Any]]
    elapsed_s: float


@dataclass
class _Watcher:
    """Passes what the controller tells on to the display, the tracker and ``on_result``."""

    display: Display
    tracker: Tracker
    on_result: Callable[[JobResult], None]
    num_done: int = 0
    notes: set[str] = field(default_factory=set)

    def job_done(self, job: Job, result: JobResult) -> None:
        self.num_done += len(job.tasks)
        if result.note is not None and result.note not in self.notes:
            self.notes.add(result.note)
            self.display.message(result.note)
        self.on_result(result)
        self.tracker.tasks(result.reports)
        self.display.advance(job, result)

    def job_retried(self, job: Job, error: Exception, delay_s: float) -> None:
        again = f"again in {delay_s:.1f} s" if delay_s else "each task again on its own"
        self.display.message(f"{job} failed, {again}: {first_line(error)}")

    def job_failed(self, job: Job, error: Exception, num_attempts: int) -> None:
        self.display.message(f"{job} failed after {num_attempts} attempts: {first_line(error)}")


def run_sweep(config: SweepConfig, data_folder: Path | None, display: Display) -> SweepResult:
    """Run a sweep to its end. Raises InputError before anything is written.

    data_folder: where the user keeps data sets, None for the cache or a download.
    """
    start_s = time.monotonic()
    run = locate_run(config)
    dataset = load_dataset(config.benchmark.dataset, data_folder)
    resources = find_resources(config.executor, connect=True)
    with locked(run.layout):
        clean_temporaries(run.layout)
        record = ensure_record(run, resources)
        verdict = _set_bad_files_aside(run, display)
        tracker = make_tracker(config.tracking.uri, display.message)
        tracker.open(_tracked_run(run, record), _finished_reports(run))
        sweep = _Sweep(
            run=run,
            record=record,
            dataset=dataset,
            resources=resources,
            display=display,
            tracker=tracker,
        )
        try:
            num_trained, failures, accuracies = sweep.work(verdict)
        except BaseException as error:
            sweep.close()
            was_stopped = isinstance(error, KeyboardInterrupt)
            tracker.close(TrackedEnd(status="KILLED" if was_stopped else "FAILED"))
            if was_stopped:
                raise StoppedError(_stopped_message(run)) from None
            raise
        sweep.close()
        _end_tracking(run, tracker, failures, accuracies, display)
        return SweepResult(
            run=run,
            num_trained=num_trained,
            failures=failures,
            accuracies=accuracies,
            facts=run.store.facts().to_pylist(),
            elapsed_s=time.monotonic() - start_s,
        )


@dataclass
class _Sweep:
    """One pass over a run folder; starts the executor only when there is a job for it."""

    run: Run
    record: RunRecord
    dataset: Dataset
    resources: Resources
    display: Display
    tracker: Tracker
    _executor: Executor | None = None
    _correct: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def work(self, verdict: Verdict) -> tuple[int, tuple[Failure, ...], dict[int, float]]:
        """Train and evaluate; return tasks trained, failures, and GG accuracy by k."""
        config = self.run.config
        num_tasks, size = config.benchmark.num_tasks, self._cohort_size()
        self._say_engine()
        plan = plan_jobs(num_tasks, size, verdict.tasks)
        if not plan.jobs:
            self.display.message(f"all {num_tasks} tasks are trained; nothing to train")
        num_trained, failures = self._phase("training", plan, num_tasks)
        write_failures(self.run, failures)
        failed = {task for failure in failures for task in failure.job.tasks}
        self._correct = stored_counts(self.run)
        most = max(config.evaluation.points(num_tasks), default=0)
        to_evaluate = plan_jobs(most, size, self._correct.keys() | failed, "evaluate")
        _, evaluation_failures = self._phase("evaluating GG", to_evaluate, most)
        accuracies = write_evaluations(self.run, self._correct, self._num_test_images(most))
        write_report(self.run, accuracies)
        clean_temporaries(self.run.layout)
        return num_trained, failures + evaluation_failures, accuracies

    def close(self) -> None:
        """End the executor, if one was started."""
        self.display.stop()
        if self._executor is not None:
            self._executor.close()

    def _phase(self, verb: str, plan: Plan, num_total: int) -> tuple[int, tuple[Failure, ...]]:
        if not plan.jobs:
            return 0, ()
        if self._executor is None:
            self._executor = make_executor(self.run, self.record, self.dataset, self.resources)
        watcher = _Watcher(self.display, self.tracker, self._keep_counts)
        self.display.start(verb, num_total, plan.num_done)
        policy = RetryPolicy(max_retries=self.run.config.executor.retries)
        failures = run_jobs(plan.jobs, self._executor, policy, watcher)
        self.display.stop()
        return watcher.num_done, failures

    def _keep_counts(self, result: JobResult) -> None:
        self._correct.update(result.correct)

    def _cohort_size(self) -> int:
        wanted, kept = self.run.config.training.cohort_size, self.record.cohort_size
        if wanted in ("auto", kept):
            return kept
        self.display.message(
            f"training.cohort_size={wanted}: this run was made with {kept}; missing tasks are cut by {wanted}"
        )
        return int(wanted)

    def _say_engine(self) -> None:
        wanted, kept = self.run.config.executor.engine, self.record.engine
        if wanted not in ("auto", kept):
            self.display.message(f"executor.engine={wanted}: this run was made with {kept}, which it keeps")

    def _num_test_images(self, num_tasks: int) -> dict[int, int]:
        spec, labels = self.run.config.benchmark, self.dataset.test_labels
        if spec.classes_per_task is None:
            return dict.fromkeys(range(num_tasks), len(labels))
        per_task = spec.classes_per_task
        return {t: int((labels // per_task == t).sum()) for t in range(num_tasks)}


def _set_bad_files_aside(run: Run, display: Display) -> Verdict:
    """Verify all masks; move what is bad among mask files out of the way and say so."""
    verdict = verify_masks(run.store)
    bad = [p for p in verdict.problems if p.path in set(run.store.files())]
    for problem, place in zip(bad, quarantine(run.store, bad), strict=True):
        display.message(f"{problem.message}\n  moved to {place}; its tasks are trained again")
    return verdict


def _tracked_run(run: Run, record: RunRecord) -> TrackedRun:
    uri = run.config.tracking.uri
    database = sqlite_path(absolute_uri(uri)) if uri else None
    root = database.parent if database else run.layout.root.parent
    return TrackedRun(
        experiment=run.config.name,
        name=run.name,
        fingerprint=run.fingerprint,
        created_s=record.created_s,
        params=flat_params(config_values(run.config))
        | {"cohort_size": record.cohort_size, "engine": record.engine, "supsup": package_version("supsup")},
        artifact_root=root / "mlflow-artifacts" / run.config.name,
        task_runs=run.config.tracking.task_runs,
    )


def _finished_reports(run: Run) -> list[Any]:
    places, store = run.store.locate(), run.store
    times = {path: float(store.provenance(path)["finished_s"]) for path in set(places.values())}
    return known_reports(store.facts().to_pylist(), {task: times[path] for task, path in places.items()})


def _end_tracking(
    run: Run, tracker: Tracker, failures: Sequence[Failure], accuracies: dict[int, float], display: Display
) -> None:
    layout = run.layout
    end = TrackedEnd(
        status="FAILED" if failures else "FINISHED",
        metrics=tuple(("GG/accuracy", k, accuracy) for k, accuracy in accuracies.items()),
        artifacts=(
            (layout.config, None),
            (layout.tasks, None),
            *((path, "report") for path in sorted(layout.report.iterdir())),
        ),
        failed=tuple((t, first_line(f.error)) for f in failures for t in f.job.tasks),
    )
    if not tracker.close(end):
        display.message(
            f"MLflow has not taken everything of this run; all of it is in {layout.root}, and the "
            "next `supsup run` of the same sweep sends the rest"
        )


def _stopped_message(run: Run) -> str:
    num_done = len([task for task in run.store.locate() if task < run.config.benchmark.num_tasks])
    return (
        f"stopped: {num_done} of {run.config.benchmark.num_tasks} tasks are finished and kept in "
        f"{run.layout.root}; the same command goes on from there"
    )
