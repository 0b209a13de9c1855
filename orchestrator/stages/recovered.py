"""HopSupSup's evaluation: store the masks in a Hopfield memory, then recover and test each task's mask."""

import numpy as np
import pyarrow.compute as pc

from core.errors import plural
from core.hopfield.memory import memorise, memory_num_bytes, steps_to_exact
from core.masks.bits import packed_num_bytes, unpack
from orchestrator.execution.jobs import RecoveryRequest, parts_of
from orchestrator.runs.results import Metrics, test_batches
from orchestrator.runs.run import Run
from orchestrator.stages.base import RunContext
from orchestrator.stages.tables import TableStage, mean, stored_table, table_path
from storage.arrow import numbers
from storage.hopfield_file import stored_masks_digest, write_memory
from storage.layout import TableKey
from storage.mask_facts import MaskFacts
from storage.parts import drop_parts, whole_table
from storage.tables import read_evaluation, task_accuracies, task_shares, write_evaluation

SCENARIO = "GNs"


class Recovered(TableStage[RecoveryRequest]):
    """Recovers masks from a Hopfield memory and scores them."""

    kind = "recover"
    verb = "recovering masks"
    tasks_per_job = 1
    reads_masks = True

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """Build the memory of each k whose masks are stored; a memory outlives its masks."""
        for request in _requests(context.run):
            if not context.facts.problems:
                _ensure_memory(context, request)
        return super().prepare(context)

    def requests(self, run: Run, facts: MaskFacts) -> list[RecoveryRequest]:
        """Return the requests whose memory exists."""
        del facts
        return [request for request in _requests(run) if request.memory.exists()]

    def merge(self, run: Run, request: RecoveryRequest) -> None:
        """See ``TableStage``."""
        merge_recovery(run, request)

    def metrics(self, run: Run, request: RecoveryRequest, scenario: str) -> Metrics | None:
        """See ``TableStage``."""
        assert scenario == SCENARIO, "masks on outputs are recovered for one scenario"
        return recovery_metrics(run, request)


def _requests(run: Run) -> list[RecoveryRequest]:
    evaluation = run.config.evaluation
    spec = evaluation.hopfield
    assert spec is not None, "SweepConfig fills it for masks on outputs"
    memories = {k: run.layout.memory(spec.rule, k) for k in evaluation.ks(run.config.benchmark.num_tasks)}
    return [
        RecoveryRequest(
            hopfield=spec,
            k=k,
            num_batches=test_batches(run),
            memory=memory,
            masks=stored_masks_digest(memory) or "",
        )
        for k, memory in memories.items()
    ]


def _ensure_memory(context: RunContext, request: RecoveryRequest) -> None:
    """Build the memory of the first k masks if it is missing or holds other masks."""
    run, facts, path = context.run, context.facts, request.memory
    wanted = facts.digests.joint(request.k)
    if wanted is None or request.masks == wanted:
        return
    context.message(f"storing {plural(request.k, 'mask')} in Psi ({request.hopfield.rule})")
    stored = run.store.iterate_bits(range(request.k), facts.files)
    masks = [unpack(bits, run.identity.shapes) for bits in stored]
    memory = memorise(request.hopfield.rule, masks)
    write_memory(path, memory, run.identity.names, fingerprint=run.fingerprint, masks_digest=wanted)


def merge_recovery(run: Run, request: RecoveryRequest) -> None:
    """Write both tables once all tasks are done, and delete the parts."""
    parts = parts_of(request, run.layout, run.fingerprint)
    scored, steps = whole_table(parts), whole_table(parts, "steps")
    if scored is None or steps is None:
        return
    by_task = [("task", "ascending")]
    metadata = {
        "scenario": SCENARIO,
        "algorithm": "hopfield",
        "objective": request.hopfield.rule,
        "images": request.hopfield.adapt_on,
        "batches": "all" if request.num_batches is None else str(request.num_batches),
        "k": str(request.k),
        "fingerprint": run.fingerprint,
        "masks": request.masks,
    }
    steps = steps.sort_by([*by_task, ("step", "ascending")]).combine_chunks()
    write_evaluation(run.layout.recovery(request.key), steps, metadata)
    scored = scored.sort_by([*by_task, ("batch", "ascending")]).combine_chunks()
    write_evaluation(table_path(run, request, SCENARIO), scored, metadata)
    drop_parts(parts)


def recovery_metrics(run: Run, request: RecoveryRequest) -> Metrics | None:
    """Return the metrics of the stored tables, None if there are none.

    Means over tasks, fractions: ``accuracy`` with the recovered masks, ``given_accuracy`` with the
    true ones on the same images. ``recovered``: share of masks recovered exactly, in ``mean_steps``
    and at most ``most_steps``. ``psi_bytes``; ``mask_bytes`` of one packed mask; ``break_even_tasks``:
    number of tasks from which Psi is smaller than the masks. Metrics that need deleted masks are left out.
    """
    table = stored_table(run, request, SCENARIO)
    if table is None:
        return None
    shapes = run.identity.shapes
    psi_bytes, mask_bytes = memory_num_bytes([width for (width,) in shapes]), packed_num_bytes(shapes)
    metrics = {
        "accuracy": mean(task_accuracies(table)),
        "psi_bytes": float(psi_bytes),
        "mask_bytes": float(mask_bytes),
        "break_even_tasks": float(-(-psi_bytes // mask_bytes)),
    }
    if table["num_correct_given"].null_count == 0:
        metrics["given_accuracy"] = mean(task_shares(table, numbers(table["num_correct_given"])))
        metrics |= _step_metrics(run, request)
    return metrics


def _step_metrics(run: Run, request: RecoveryRequest) -> Metrics:
    steps = read_evaluation(run.layout.recovery(request.key), run.fingerprint, request.masks)
    tasks = pc.unique(steps["task"]).to_pylist()
    found = [
        steps_to_exact(steps.filter(pc.equal(steps["task"], task))["hamming"].to_numpy()) for task in tasks
    ]
    needed = [number for number in found if number is not None]
    metrics = {"recovered": len(needed) / len(found)}
    if needed:
        metrics |= {"mean_steps": float(np.mean(needed)), "most_steps": float(max(needed))}
    return metrics
