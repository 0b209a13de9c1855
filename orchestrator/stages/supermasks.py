"""Training supermasks with the task given: independent cohorts or, with transfer, tasks in order."""

from collections.abc import Collection

from core.errors import plural
from orchestrator.execution.plan import Plan, plan_jobs
from orchestrator.runs.results import GIVEN, Results
from orchestrator.runs.run import Run
from orchestrator.runs.sizing import kept_cohort_size
from orchestrator.stages.base import (
    Progress,
    RunContext,
    TrainingStage,
    Verification,
    failed_left,
    good_masks,
    stored_tasks,
)
from storage.hopfield_file import num_remembered
from storage.layout import TableKey
from storage.locations import remove_tree
from storage.mask_files import MaskFiles
from storage.verify import Findings


class Supermasks(TrainingStage):
    """Trains one mask per task. in_order: with transfer, where a task starts from earlier ones."""

    kind = "train"

    def __init__(self, *, in_order: bool) -> None:
        self.in_order = in_order
        self.tie = "with training.transfer each task starts from those before it" if in_order else None

    def progress(
        self, run: Run, findings: Findings | None = None, *, files: MaskFiles | None = None
    ) -> Progress:
        """See ``TrainingStage``. Deleted masks count if a Hopfield memory holds them."""
        tasks = frozenset(range(run.config.benchmark.num_tasks))
        if findings is not None:
            files = findings.facts.files
        files = run.store.locate() if files is None else files
        stored, forgotten = stored_tasks(run, findings, files), files.forgotten & tasks
        if not stored:
            bad = () if findings is None else [problem.path for problem in findings.problems if problem.path]
            stored = frozenset(range(num_remembered(run.layout, run.fingerprint, bad)))
        done = (stored & tasks) - forgotten
        failed = failed_left(run, done | forgotten)
        return Progress(num_total=len(tasks - forgotten), done=done, failed=failed, forgotten=forgotten)

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """Warn if the engine asked for differs from the run's."""
        wanted, kept = context.run.config.executor.engine, context.record.engine
        if wanted not in ("auto", kept):
            context.message(f"executor.engine={wanted}: this run was made with {kept} and keeps it")
        return super().prepare(context)

    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """See ``Stage``."""
        run = context.run
        num_tasks, progress = run.config.benchmark.num_tasks, self.progress(run, files=context.facts.files)
        skipped = frozenset[int]() if only is None else frozenset(range(num_tasks)) - set(only)
        size = _cohort_size(context)
        return plan_jobs(
            num_tasks,
            size,
            progress.done | progress.forgotten | skipped,
            kind=self.kind,
            in_order=self.in_order,
            note=f"{plural(progress.num_total, 'task')} done; nothing to train",
        )

    def collect(self, context: RunContext) -> Results:
        """Remove checkpoints of cohorts of other sizes; evaluation measures accuracy."""
        if self.progress(context.run, files=context.facts.files).is_complete:
            remove_tree(context.run.layout.saves)
        return Results()

    def verify(self, run: Run, findings: Findings) -> Verification:
        """See ``TrainingStage``. A Hopfield memory can replace deleted masks."""
        progress = self.progress(run, findings)
        if not progress.done - findings.tasks:
            return super().verify(run, findings)
        num_good = good_masks(len(findings.tasks), progress.num_total)
        held = f"{num_good}; the Hopfield memory holds the first {progress.num_done}"
        return Verification(summary=(held,), is_whole=progress.is_complete)

    def why_not(self, run: Run, files: MaskFiles, scenario: str, k: int) -> str:
        """See ``TrainingStage``. A Hopfield memory could have stood in for missing masks."""
        words, hopfield = super().why_not(run, files, scenario, k), run.config.evaluation.hopfield
        if hopfield is None or scenario == GIVEN or not words.endswith("missing"):
            return words
        return f"{words}, and no {hopfield.rule} memory holds these {k} masks"

    def describe(self, run: Run, cohort_size: int, findings: Findings | None) -> list[tuple[str, str]]:
        """See ``TrainingStage``."""
        progress = self.progress(run, findings)
        done = progress.done | progress.forgotten
        plan = plan_jobs(run.config.benchmark.num_tasks, cohort_size, done, kind=self.kind)
        cohorts = f"{len(plan.jobs)} of up to {plural(cohort_size, 'task')}"
        return [*super().describe(run, cohort_size, findings), ("cohorts to train", cohorts)]


def _cohort_size(context: RunContext) -> int:
    kept = context.record.cohort_size
    wanted = kept_cohort_size(context.run, kept)
    if wanted == kept:
        return kept
    context.message(
        f"training.cohort_size={wanted}: this run was made with {kept}; the missing tasks use cohorts of {wanted}"
    )
    return wanted
