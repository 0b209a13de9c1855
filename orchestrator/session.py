"""RunSession of a run: jobs of one kind, handed to workers that are started when there is a job."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from core.data.datasets import Dataset
from core.errors import SupSupError
from core.stream.schedule import num_decisions
from orchestrator.cluster.launch import make_executor
from orchestrator.execution.controller import Failure, run_jobs
from orchestrator.execution.executor import Executor
from orchestrator.execution.jobs import Job
from orchestrator.execution.plan import Plan
from orchestrator.execution.progress import Display
from orchestrator.execution.retry_policy import RetryPolicy
from orchestrator.runs.history import begin_session, end_session
from orchestrator.runs.results import num_expected_masks
from orchestrator.runs.run import Run
from orchestrator.runs.sizing import Resources
from orchestrator.tracking.content import is_trained
from orchestrator.tracking.tracker import Tracker, make_tracker
from orchestrator.watcher import RunWatcher
from storage.checkpoints import num_learned
from storage.run_file import RunRecord
from storage.stream_state import read_position


class StoppedError(SupSupError):
    """The user stopped the run; what was finished is kept."""

    exit_code = 130


@dataclass
class RunSession:
    """Runs one phase after another in a run folder, on the same workers.

    correct: by task, correct images of each test batch with the task given, as workers counted.
    """

    run: Run
    record: RunRecord
    dataset: Dataset
    resources: Resources
    display: Display
    tracker: Tracker
    correct: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _executor: Executor | None = None

    def work(self, verb: str, plan: Plan, num_total: int) -> tuple[int, tuple[Failure, ...]]:
        """Run the jobs of ``plan``; return how many tasks ended well, and the failures.

        verb, num_total: what the display says, and of how many tasks.
        """
        if not plan.jobs:
            return 0, ()
        watcher = self._begin(verb, num_total, plan.num_done, "tasks", plan.jobs)
        failures = self._run(plan.jobs, watcher)
        self._end_phase(watcher)
        return watcher.num_done, failures

    def work_in_order(
        self, verb: str, jobs: Sequence[Job], *, num_done: int, unit: str
    ) -> tuple[Failure, ...]:
        """Run jobs one after another, each only after the one before; end with the first failure.

        num_done: of ``unit``, before the first job.
        """
        watcher = self._begin(verb, jobs[-1].last + 1, num_done, unit, jobs)
        failures: tuple[Failure, ...] = ()
        for job in jobs:
            failures = failures or self._run([job], watcher)
        self._end_phase(watcher)
        return failures

    def _begin(self, verb: str, num_total: int, num_done: int, unit: str, jobs: Sequence[Job]) -> RunWatcher:
        self._workers()
        self.display.start(verb, num_total, num_done, unit, num_jobs=len(jobs))
        return RunWatcher(self.display, self.tracker, self.run.layout, self.correct)

    def _run(self, jobs: Sequence[Job], watcher: RunWatcher) -> tuple[Failure, ...]:
        policy = RetryPolicy(max_retries=self.run.config.executor.retries)
        digest = str(self.run.identity.network["digest"])
        return run_jobs(jobs, self._workers(), policy, watcher, network_digest=digest)

    def _end_phase(self, watcher: RunWatcher) -> None:
        watcher.end()
        self.display.stop()

    def _workers(self) -> Executor:
        if self._executor is None:
            self._executor = make_executor(self.run, self.record, self.dataset, self.resources)
        return self._executor

    def end(self, failures: Sequence[Failure]) -> None:
        """End the workers, then the MLflow run, of which the run folder now says all."""
        self.close()
        run, layout = self.run, self.run.layout
        # Evaluating what is there does not finish a run that was stopped.
        is_whole = is_trained(run, replace(self.record, num_tasks=run.config.benchmark.num_tasks))
        end_session(layout, "FAILED" if failures else "FINISHED" if is_whole else "KILLED")
        if not self.tracker.close():
            self.display.message(
                f"MLflow has not taken everything of this run; all of it is in {layout.root}, and "
                f"`supsup sync {layout.root}`, or the next `supsup run` of the same sweep, sends the rest"
            )

    def close(self) -> None:
        """End the executor, if one was started."""
        self.display.stop()
        if self._executor is not None:
            self._executor.close()


@contextmanager
def open_session(
    run: Run, record: RunRecord, dataset: Dataset, resources: Resources, display: Display
) -> Iterator[RunSession]:
    """Open the run in MLflow and give its phases; whatever is raised ends workers and MLflow run.

    Raises StoppedError in place of KeyboardInterrupt.
    """
    begin_session(run.layout)
    tracker = make_tracker(run, record, display.message)
    tracker.open()
    session = RunSession(run, record, dataset, resources, display, tracker)
    try:
        yield session
    except BaseException as error:
        session.close()
        was_stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        with suppress(OSError):  # a full disk, say: the first error is the one to tell
            end_session(run.layout, "KILLED" if was_stopped else "FAILED")
        tracker.close(is_hurried=was_stopped)
        if isinstance(error, KeyboardInterrupt):
            raise StoppedError(_stopped_message(run)) from None
        raise


def _stopped_message(run: Run) -> str:
    num_total = run.config.benchmark.num_tasks
    done = f"{sum(task < num_total for task in run.store.locate())} of {num_total} tasks are finished and"
    if run.config.baseline is not None:
        done = f"{num_learned(run.layout)} of {num_total} tasks are learned and"
    elif not num_expected_masks(run, num_total):
        position = read_position(run.layout, run.fingerprint)
        done = f"{position.num_decisions if position else 0} of {num_decisions(run.config.run_spec())} decisions are"
    return f"stopped: {done} kept in {run.layout.root}; the same command goes on from there"
