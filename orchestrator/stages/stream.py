"""Training without task identity: a single stream, processed in order by one worker at a time."""

from collections import Counter
from collections.abc import Collection

from core.errors import DamagedFileError, plural
from core.stream.schedule import num_decisions, plan_visits
from orchestrator.execution.jobs import Job
from orchestrator.execution.plan import Plan
from orchestrator.runs.history import read_failures, reason
from orchestrator.runs.results import finished_log
from orchestrator.runs.run import Run
from orchestrator.stages.base import (
    EVALUATION_FAILED,
    Progress,
    RunContext,
    TrainingStage,
    Verification,
    good_masks,
    missing_masks,
    stored_tasks,
)
from storage.decisions import score_rows
from storage.layout import TableKey
from storage.mask_files import MaskFiles
from storage.stream_state import read_position, restart_stream
from storage.verify import Findings

DECISIONS_PER_JOB = 10  # a visit of the paper's length, a few seconds: the interval of progress updates


class Stream(TrainingStage):
    """Decides batch by batch which mask to train; progress counts decisions and, at the end, masks."""

    kind = "stream"
    verb = "following the stream"
    noun = "mask"
    tie = "each mask of a stream depends on all that came before"

    def progress(
        self, run: Run, findings: Findings | None = None, *, files: MaskFiles | None = None
    ) -> Progress:
        """See ``TrainingStage``."""
        homes = self.homes(run)
        if homes:
            stored = stored_tasks(run, findings, files)
            return Progress(num_total=len(homes), done=stored & frozenset(range(len(homes))), unit="masks")
        num_done = _num_decided(run)
        return Progress(
            num_total=num_decisions(run.config.run_spec()),
            done=frozenset(range(num_done)),
            failed=_failed(run, num_done),
            unit="decisions",
        )

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """Restart the stream if its log is unreadable or masks are missing."""
        try:
            progress = self.progress(context.run, files=context.facts.files)
        except DamagedFileError as error:
            context.message(f"{error}; the stream starts again from the beginning")
            restart_stream(context.run.layout)
            return frozenset()
        if progress.unit == "masks" and not progress.is_complete:
            num_missing = progress.num_total - progress.num_done
            context.message(
                f"{plural(num_missing, 'mask')} of the stream {'is' if num_missing == 1 else 'are'} missing; "
                "it starts again from "
                "its beginning, since each mask depends on the others"
            )
            restart_stream(context.run.layout)
        return frozenset()

    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """See ``Stage``."""
        run = context.run
        progress = self.progress(run, files=context.facts.files)
        total = num_decisions(run.config.run_spec())
        if progress.is_complete:
            note = f"the stream has ended and left {plural(progress.num_done, 'mask')}; nothing to train"
            return Plan(jobs=(), num_done=total, num_total=total, note=note)
        num_done = progress.num_done
        jobs = [
            Job(
                first=first,
                last=min(first + DECISIONS_PER_JOB, total) - 1,
                kind=self.kind,
                unit="decisions",
                in_order=True,
            )
            for first in range(num_done - num_done % DECISIONS_PER_JOB, total, DECISIONS_PER_JOB)
        ]
        chosen = tuple(job for job in jobs if only is None or not set(job.tasks).isdisjoint(only))
        return Plan(jobs=chosen, num_done=num_done, num_total=total)

    def verify(self, run: Run, findings: Findings) -> Verification:
        """See ``TrainingStage``."""
        if self.progress(run, findings).unit == "masks":
            return super().verify(run, findings)
        goes_on = "the stream has not ended yet; its masks are stored when it does"
        return Verification(summary=(good_masks(len(findings.tasks), 0), goes_on), is_whole=False)

    def why_not(self, run: Run, files: MaskFiles, scenario: str, k: int) -> str:
        """See ``TrainingStage``. Raises DamagedFileError."""
        del scenario, k
        progress = self.progress(run, files=files)
        if progress.unit == "decisions":
            return f"the stream has not ended: {progress} are made"
        missing = set(range(progress.num_total)) - progress.done
        return f"{progress} exist, {missing_masks(missing, 'mask')}" if missing else EVALUATION_FAILED

    def describe(self, run: Run, cohort_size: int, findings: Findings | None) -> list[tuple[str, str]]:
        """See ``TrainingStage``."""
        del cohort_size, findings
        spec = run.config.run_spec()
        visits, rules = plan_visits(spec), spec.training.stream
        assert rules is not None, "a spec without task identity has a stream"
        again = Counter(visit.kind for visit in visits)
        where = "on decisions, which leaks them" if rules.boundaries == "aligned" else "at random places"
        return [
            ("true tasks", f"{run.config.benchmark.num_tasks}, not told to the model"),
            ("visits", f"{len(visits)}: {again['return']} return to a task, {again['repeat']} repeat one"),
            ("batches", f"{visits[-1].end:,}, boundaries {where}"),
            ("decisions", f"{num_decisions(spec):,}"),
        ]

    def homes(self, run: Run) -> tuple[int, ...]:
        """Return the true task of each mask, empty until the stream ends. Raises DamagedFileError."""
        rows = finished_log(run)
        return score_rows(rows).homes if rows else ()


def _num_decided(run: Run) -> int:
    try:
        position = read_position(run.layout, run.fingerprint)
    except DamagedFileError:
        return 0  # the worker reports it and restarts
    return position.num_decisions if position else 0


def _failed(run: Run, num_done: int) -> dict[int, str]:
    """Return the decisions at which the last run failed, with the reason."""
    rows = [row for row in read_failures(run) if row.get("decision", -1) + DECISIONS_PER_JOB > num_done]
    return {max(row["decision"], num_done): reason(row) for row in rows if "decision" in row}
