"""Training a baseline: tasks in order, by one worker at a time, with evaluation at each k on the way."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np

from core.errors import DamagedFileError, plural
from core.specs.inference import InferenceSpec
from orchestrator.execution.jobs import InferenceRequest, Job
from orchestrator.execution.plan import Plan
from orchestrator.runs.results import GIVEN, Result, Results, test_batches
from orchestrator.runs.run import Run
from orchestrator.stages.base import (
    Progress,
    RunContext,
    TrainingStage,
    Verification,
    failed_left,
    trained_tasks,
)
from orchestrator.stages.tables import merge_inferred, request_results
from storage.checkpoints import num_learned, read_baseline
from storage.layout import TableKey
from storage.locations import listed
from storage.mask_files import MaskFiles
from storage.tables import read_evaluation, task_accuracies
from storage.verify import Findings, Problem


class Baseline(TrainingStage):
    """Trains and evaluates a baseline, which has no masks."""

    kind = "baseline"
    has_masks = False
    tie = "the tasks of a baseline share their weights"

    def progress(
        self, run: Run, findings: Findings | None = None, *, files: MaskFiles | None = None
    ) -> Progress:
        """See ``TrainingStage``."""
        del findings, files
        num_tasks = run.config.benchmark.num_tasks
        done = frozenset(range(min(num_learned(run.layout), num_tasks)))
        return Progress(num_total=num_tasks, done=done, failed=failed_left(run, done))

    def accuracies(self, run: Run) -> dict[int, float]:
        """See ``TrainingStage``; read from the table of the largest k."""
        keys = [TableKey.parse(path.stem) for path in listed(run.layout.evaluations, f"{GIVEN}-*.parquet")]
        for key in sorted((key for key in keys if key), key=lambda key: key.k, reverse=True):
            with suppress(DamagedFileError):
                return task_accuracies(read_evaluation(run.layout.evaluation(key), run.fingerprint, ""))
        return {}

    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """See ``Stage``."""
        run = context.run
        num_tasks, num_done = run.config.benchmark.num_tasks, self.progress(run).num_done
        ks = run.config.evaluation.ks(num_tasks)
        jobs = [
            Job(
                first=t,
                last=t,
                kind=self.kind,
                request=_request(run, t + 1) if t + 1 in ks else None,
                in_order=True,
            )
            for t in range(num_done, num_tasks)
        ]
        chosen = tuple(job for job in jobs if only is None or job.first in only)
        note = f"{plural(num_tasks, 'task')} done; nothing to train"
        return Plan(jobs=chosen, num_done=num_done, num_total=num_tasks, note=note)

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """See ``Stage``."""
        return frozenset(one.table for one in self.collect(context))

    def collect(self, context: RunContext) -> Results:
        """Return the results at each k with a table."""
        run, found = context.run, list[Result]()
        for k in run.config.evaluation.ks(run.config.benchmark.num_tasks):
            request = _request(run, k)
            try:
                path = run.layout.evaluation(TableKey(GIVEN, k, request.num_batches))
                table = read_evaluation(path, run.fingerprint, request.masks)
            except DamagedFileError:
                continue  # not measured: k was requested after the run had passed it
            mean = float(np.mean(list(task_accuracies(table).values())))
            given = {"accuracy": mean}
            found.append(Result(scenario=GIVEN, num_batches=request.num_batches, k=k, metrics=given))
            if run.config.evaluation.inferred_scenarios:
                merge_inferred(run, request)
                found += request_results(run, request)
        return Results(found)

    def why_not(self, run: Run, files: MaskFiles, scenario: str, k: int) -> str:
        """See ``TrainingStage``. Other k than those of its training cannot be measured any more."""
        del scenario, files
        num_done = self.progress(run).num_done
        words = trained_tasks(num_done)
        return f"{words}, and a baseline is measured while it learns" if k <= num_done else words

    def verify(self, run: Run, findings: Findings) -> Verification:
        """Read the whole state; a later run retrains what is unreadable."""
        del findings
        num_tasks, num_named = run.config.benchmark.num_tasks, num_learned(run.layout)
        num_good = read_baseline(run.layout, run.fingerprint)[0]
        path = run.layout.baseline
        what = f"the state after {plural(num_named, 'task')} in {path}"
        return Verification(
            problems=(Problem(kind="damaged", path=path, message=what),) if num_good < num_named else (),
            summary=(f"{num_good:,} of {plural(num_tasks, 'task')} learned, and the state is good",),
            is_whole=num_good == num_named == num_tasks,
        )


def _request(run: Run, k: int) -> InferenceRequest:
    inference = run.config.evaluation.inference or InferenceSpec(objective="H")
    return InferenceRequest(inference=inference, k=k, num_batches=test_batches(run), bank=Path(), masks="")
