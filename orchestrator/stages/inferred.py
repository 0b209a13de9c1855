"""Evaluation with the task inferred: scenarios GNs, GNu, and NNs at the end of a stream."""

from dataclasses import asdict

from orchestrator.execution.jobs import InferenceRequest
from orchestrator.runs.results import Metrics, Results, finished_log, test_batches
from orchestrator.runs.run import Run
from orchestrator.stages.base import RunContext
from orchestrator.stages.tables import TableStage, ensure_confusion, inferred_metrics, merge_inferred
from storage.bank_file import bank_path, make_bank
from storage.decisions import score_rows
from storage.layout import TableKey
from storage.mask_facts import MaskFacts


class Inferred(TableStage[InferenceRequest]):
    """Searches the stored masks for the task of test images."""

    kind = "infer"
    verb = "inferring tasks"
    tasks_per_job = 8  # seconds at 2500 tasks, so a crash loses little

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """Build the mask bank that workers search, if any table is missing."""
        stored, facts = super().prepare(context), context.facts
        requests = self.open_requests(context.run, facts, stored)
        if requests:
            make_bank(context.run.store, requests[0].bank, facts)
        return stored

    def requests(self, run: Run, facts: MaskFacts) -> list[InferenceRequest]:
        """Return a request for each k whose tasks are trained; for a stream that has ended, a single one."""
        evaluation = run.config.evaluation
        assert evaluation.inference is not None, "masks on weights are searched by inference"
        homes, files = None, facts.files
        most = files.num_leading
        ks = [k for k in evaluation.ks(run.config.benchmark.num_tasks) if k <= most and files.among(k)]
        if not run.config.training.is_given:
            rows = finished_log(run)
            homes = score_rows(rows).homes if rows else ()
            ks = [run.config.benchmark.num_tasks] if homes and most >= len(homes) else []
        if not ks:
            return []
        bank, inference = bank_path(run.store, facts), evaluation.inference
        digests, batches = facts.digests, test_batches(run)
        return [
            InferenceRequest(
                inference=inference,
                k=k,
                num_batches=batches,
                bank=bank,
                masks=digests.joint(k if homes is None else len(homes)) or "",
                homes=homes,
                forgotten=tuple(sorted(task for task in files.forgotten if task < k)),
            )
            for k in ks
        ]

    def collect(self, context: RunContext) -> Results:
        """See ``Stage``; writes the confusion tables that are missing."""
        results, run = super().collect(context), context.run
        scenarios = {one.k: one.scenario for one in results}
        for request in self.requests(run, context.facts) if scenarios else ():
            if request.k in scenarios:
                ensure_confusion(run, request, scenarios[request.k])
        return results

    def merge(self, run: Run, request: InferenceRequest) -> None:
        """See ``TableStage``."""
        merge_inferred(run, request)

    def metrics(self, run: Run, request: InferenceRequest, scenario: str) -> Metrics | None:
        """See ``TableStage``; for a stream, with the counts of ``AllocationScore``."""
        found = inferred_metrics(run, request, scenario)
        rows = None if found is None or request.homes is None else finished_log(run)
        score = {} if rows is None else asdict(score_rows(rows))
        counts = {key: float(value) for key, value in score.items() if key.startswith("num_")}
        return None if found is None else found | counts
