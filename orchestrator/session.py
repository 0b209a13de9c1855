"""A session of work on a run: stage after stage, on workers that are started at the first job."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from core.errors import SupSupError, plural
from orchestrator.cluster.launch import make_executor
from orchestrator.cluster.local_ray import LocalRay
from orchestrator.execution.controller import Failure, run_jobs
from orchestrator.execution.counts import Counts
from orchestrator.execution.ctrl_c import GRACE_S, stop_taken
from orchestrator.execution.executor import Executor
from orchestrator.execution.jobs import Job
from orchestrator.execution.plan import Plan
from orchestrator.execution.progress import Display
from orchestrator.execution.retry_policy import RetryPolicy
from orchestrator.runs.arithmetic import mix_note
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.history import begin_session, end_session
from orchestrator.runs.live import LiveFile
from orchestrator.runs.results import Results
from orchestrator.runs.run import Run
from orchestrator.runs.sizing import Resources
from orchestrator.stages import training_stage
from orchestrator.stages.base import RunContext, Stage, TrainingStage
from orchestrator.tracking.tracker import Trackers, open_trackers
from orchestrator.watcher import RunWatcher
from storage.checkpoints import saved_steps
from storage.locations import listed


class StoppedError(SupSupError):
    """The user stopped the run; finished work is kept."""

    exit_code = 130

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: no traceback, since nothing is wrong with the code."""
        return [str(self)]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The result of a stage. num_trained: masks, or tasks of a baseline, in this session."""

    results: Results
    failures: tuple[Failure, ...]
    num_trained: int


@dataclass
class RunSession:
    """Runs one stage after another in a run folder, on the same workers. local: a Ray that starts, or is joined, meanwhile."""

    context: RunContext
    resources: Resources
    display: Display
    trackers: Trackers
    local: LocalRay | None = None
    _executor: Executor | None = None

    def run(self, stage: Stage, only: Collection[int] | None = None) -> StageResult:
        """Do the remaining work of ``stage``; return all its results and this session's failures.

        only: restrict the work to these tasks (or decisions).
        """
        stored = stage.prepare(self.context)
        plan = stage.plan(self.context, only)
        mix = (
            mix_note(self.context.record.provenance)
            if plan.jobs and isinstance(stage, TrainingStage)
            else None
        )
        if mix is not None:
            self.display.message(mix)
        failures, num_trained = self._work(stage, plan) if plan.jobs else ((), 0)
        if isinstance(stage, TrainingStage) and plan.jobs:
            self._read_new_facts()
        if not plan.jobs and plan.note is not None and only is None:
            self.display.message(plan.note)
        results = stage.collect(self.context).marked(stored)
        return StageResult(results=results, failures=failures, num_trained=num_trained)

    def _read_new_facts(self) -> None:
        """Take what was stored since the facts were read into the facts of the next stages."""
        facts = self.context.run.store.facts(before=self.context.facts)
        self.context = replace(self.context, facts=facts)

    def _work(self, stage: Stage, plan: Plan) -> tuple[tuple[Failure, ...], int]:
        """Run the jobs of ``plan``; jobs in order stop at the first failure."""
        self._workers()
        self.display.start(
            stage.verb, plan.num_total, plan.num_done, plan.jobs[0].unit, num_jobs=len(plan.jobs)
        )
        context, counts = self.context, Counts(plan.num_total, plan.num_done, plan.jobs[0].unit)
        live = LiveFile(context.run.layout, stage.verb, counts)
        watcher = RunWatcher(self.display, self.trackers, context.run.layout, context.counts, live)
        failures: tuple[Failure, ...] = ()
        for jobs in [[job] for job in plan.jobs] if stage.in_order else [plan.jobs]:
            failures = failures or self._run_jobs(jobs, watcher)
        watcher.end()
        live.remove()
        self.display.stop()
        return failures, watcher.num_trained

    def _run_jobs(self, jobs: Sequence[Job], watcher: RunWatcher) -> tuple[Failure, ...]:
        policy = RetryPolicy(max_retries=self.context.run.config.executor.retries)
        digest = str(self.context.run.identity.network["digest"])
        return run_jobs(jobs, self._workers(), policy, watcher, network_digest=digest)

    def _workers(self) -> Executor:
        if self._executor is None:
            context = self.context
            executor = context.run.config.executor
            where = f"connecting to Ray at {executor.address}" if executor.address else "starting Ray"
            what = "starting"
            if executor.kind != "inline":
                what = f"{where} and {plural(self.resources.num_workers, 'worker')}"
            with self.display.doing(what):
                self._executor = make_executor(
                    context.run, context.record, context.dataset, self.resources, self.local
                )
        return self._executor

    def end(self, failures: Sequence[Failure]) -> None:
        """End the workers, then the run in all trackers, which is sent from the finished run folder."""
        self.close()
        run, layout = self.context.run, self.context.run.layout
        # Evaluating a run does not finish its training.
        files = self.context.facts.files
        is_whole = training_stage(run.config).progress(run, files=files).is_complete
        end_session(layout, "FAILED" if failures else "FINISHED" if is_whole else "KILLED")
        names = " and ".join(self.trackers.names)
        with self.display.doing(f"sending what is left to {names}") if names else nullcontext():
            lacking = " and ".join(self.trackers.close())
        if lacking:
            again, more = (supsup_command(verb, layout.root, config=run.config) for verb in ("sync", "run"))
            self.display.message(
                f"{lacking} {'do' if ' and ' in lacking else 'does'} not have all of this run yet; everything is in {layout.root}, and "
                f"`{again}` or `{more}` sends the rest"
            )

    def stop(self) -> None:
        """Let the jobs in training save where they stand; a second Ctrl-C ends the waiting."""
        self.display.stop()
        if self._executor is not None:
            self._executor.stop(GRACE_S)

    def close(self) -> None:
        """Close the display, and the executor if it was started."""
        self.display.stop()
        with suppress(OSError):  # a session that was stopped within a phase
            self.context.run.layout.live.unlink(missing_ok=True)
        if self._executor is not None:
            self._executor.close()


@contextmanager
def open_session(
    context: RunContext, resources: Resources, display: Display, local: LocalRay | None = None
) -> Iterator[RunSession]:
    """Open the run in its trackers and yield its session; on any exception, end the workers and the run there.

    Raises StoppedError in place of KeyboardInterrupt.
    """
    run = context.run
    begin_session(run.layout)
    trackers = open_trackers(run, context.record, display.message)
    session = RunSession(context, resources, display, trackers, local)
    try:
        yield session
    except BaseException as error:
        was_stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        if was_stopped:
            stop_taken()
            session.stop()
        session.close()
        with suppress(OSError):  # such as a full disk: report the first error
            end_session(run.layout, "KILLED" if was_stopped else "FAILED")
        trackers.close(is_hurried=was_stopped)
        if isinstance(error, KeyboardInterrupt):
            raise StoppedError(_stopped_message(run)) from None
        raise


def _stopped_message(run: Run) -> str:
    stage = training_stage(run.config)
    progress = stage.progress(run)
    ended = "finished" if stage.has_masks else "learned"
    done = f"{progress} are" if progress.unit == "decisions" else f"{progress} are {ended} and"
    return f"stopped: {done} kept in {run.layout.root}{_saved_words(run)}; run it again to resume"


def _saved_words(run: Run) -> str:
    """Return how far the cohorts, or the task of a baseline, are that were saved in training."""
    saved = [saved_steps(path) for path in listed(run.layout.saves)]
    done, total = (sum(numbers) for numbers in zip(*saved, strict=True)) if saved else (0, 0)
    if not done:
        return ""
    what = "cohort" if training_stage(run.config).has_masks else "task"
    return f", and {done:,} of the {plural(total, 'step')} of {plural(len(saved), f'unfinished {what}')}"
