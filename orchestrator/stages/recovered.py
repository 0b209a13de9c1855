"""HopSupSup's evaluation: the memory from the masks, then a recovery and its score for each task."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import DamagedFileError
from core.hopfield.memory import memorise, memory_num_bytes, steps_to_exact
from core.masks.bits import joint_digest, packed_num_bytes, unpack
from orchestrator.execution.controller import Failure
from orchestrator.execution.jobs import RecoveryRequest
from orchestrator.execution.plan import join_plans, plan_jobs
from orchestrator.report.stream_figures import draw_recovery
from orchestrator.runs.results import Measured, scenario_key, test_batches
from orchestrator.runs.run import Run
from orchestrator.session import RunSession
from orchestrator.stages.inferred import (
    Metrics,
    drop_parts,
    inferred_tasks,
    is_answered,
    mean,
    stored_table,
    table_path,
    whole_parts,
)
from storage.bank_file import leading_digests
from storage.hopfield_file import stored_masks_digest, write_memory
from storage.tables import read_evaluation, task_accuracies, task_shares, write_evaluation

SCENARIO = "GNs"


def evaluate_recovery(session: RunSession) -> tuple[Measured, tuple[Failure, ...]]:
    """Recover and score at every k whose masks are there, or are in a memory that is."""
    run = session.run
    requests = [request for request in _requests(run) if _ensure_memory(session, request)]
    open_requests = [request for request in requests if not is_answered(run, request)]
    plan = join_plans(plan_jobs(q.k, 1, inferred_tasks(run, q), "recover", q) for q in open_requests)
    label = run.config.evaluation.method.label
    _, failures = session.work(f"recovering masks ({label})", plan, sum(q.k for q in open_requests))
    for request in open_requests:
        merge_recovery(run, request)
    by_k = {}
    for request in requests:
        metrics = recovery_metrics(run, request)
        if metrics is not None:
            draw_recovery(run, recovery_steps(run, request), request.label, request.k)
            by_k[str(request.k)] = metrics
    return ({scenario_key(run, SCENARIO): {label: by_k}} if by_k else {}), failures


def has_memory(run: Run) -> bool:
    """Tell whether masks can be recovered without their files."""
    return run.config.network.masks_outputs and any(q.memory.exists() for q in _requests(run))


def _requests(run: Run) -> list[RecoveryRequest]:
    evaluation = run.config.evaluation
    spec = evaluation.hopfield
    if spec is None:
        return []
    return [
        RecoveryRequest(
            hopfield=spec, k=k, num_batches=test_batches(run), memory=run.layout.memory(spec.rule, k)
        )
        for k in evaluation.ks(run.config.benchmark.num_tasks)
    ]


def _ensure_memory(session: RunSession, request: RecoveryRequest) -> bool:
    """Make the memory of the first k masks, unless it is there; tell whether it is now.

    Where the masks themselves are gone, a memory that is there is good.
    """
    run, path = session.run, request.memory
    try:
        digests = leading_digests(run.store)[: request.k]
    except DamagedFileError:
        digests = []
    if len(digests) < request.k:
        return path.exists()
    wanted = joint_digest(digests)
    if stored_masks_digest(path) != wanted:
        session.display.message(f"storing {request.k} masks in Psi ({request.hopfield.rule})")
        shapes = run.identity.shapes
        masks = [unpack(mask.bits, shapes) for mask in run.store.iterate(range(request.k))]
        memory = memorise(request.hopfield.rule, masks)
        write_memory(path, memory, run.identity.names, fingerprint=run.fingerprint, masks_digest=wanted)
    return True


def merge_recovery(run: Run, request: RecoveryRequest) -> None:
    """Write both tables when every task is there, and drop the parts."""
    scored, steps = whole_parts(run, request), whole_parts(run, request, "steps")
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
    }
    steps = steps.sort_by([*by_task, ("step", "ascending")]).combine_chunks()
    write_evaluation(run.layout.recovery(request.key), steps, metadata)
    scored = scored.sort_by([*by_task, ("batch", "ascending")]).combine_chunks()
    write_evaluation(table_path(run, request, SCENARIO), scored, metadata)
    drop_parts(run, request)


def recovery_metrics(run: Run, request: RecoveryRequest) -> Metrics | None:
    """Return what the tables say, None without tables.

    Means over tasks, fractions: ``accuracy`` with the recovered masks, ``given_accuracy`` with the
    true ones on the same images. ``recovered``: share of masks found exactly; ``mean_steps`` to
    them, ``most_steps``. ``psi_bytes``; ``mask_bytes`` of one packed mask; ``break_even_tasks``
    from which on Psi is smaller than the masks. What needs the true masks is left out without them.
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
        metrics["given_accuracy"] = mean(task_shares(table, table["num_correct_given"]))
        metrics |= _step_metrics(run, request)
    return metrics


def recovery_steps(run: Run, request: RecoveryRequest) -> pa.Table:
    """Return each step of each recovery. Raises DamagedFileError."""
    return read_evaluation(run.layout.recovery(request.key), run.fingerprint)


def _step_metrics(run: Run, request: RecoveryRequest) -> Metrics:
    steps = recovery_steps(run, request)
    tasks = pc.unique(steps["task"]).to_pylist()
    found = [
        steps_to_exact(steps.filter(pc.equal(steps["task"], task))["hamming"].to_numpy()) for task in tasks
    ]
    needed = [number for number in found if number is not None]
    metrics = {"recovered": len(needed) / len(found)}
    if needed:
        metrics |= {"mean_steps": float(np.mean(needed)), "most_steps": float(max(needed))}
    return metrics
