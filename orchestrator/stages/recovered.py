"""HopSupSup's evaluation: the memory from the masks, then a recovery and its score for each task."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import DamagedFileError
from core.hopfield.memory import memorise, memory_num_bytes, steps_to_exact
from core.masks.bits import joint_digest, packed_num_bytes, unpack
from orchestrator.execution.controller import Failure
from orchestrator.execution.jobs import RecoveryQuestion
from orchestrator.execution.plan import join_plans, plan_jobs
from orchestrator.report.stream_figures import draw_recovery
from orchestrator.runs.results import Measured, scenario_key, test_batches
from orchestrator.runs.run import Run
from orchestrator.session import Phases
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
from storage.parts import place
from storage.tables import read_evaluation, task_accuracies, task_shares, write_evaluation

SCENARIO = "GNs"


def evaluate_recovery(phases: Phases) -> tuple[Measured, tuple[Failure, ...]]:
    """Recover and score at every k whose masks are there, or are in a memory that is."""
    run = phases.run
    questions = [question for question in _questions(run) if _ensure_memory(phases, question)]
    open_questions = [question for question in questions if not is_answered(run, question)]
    plan = join_plans(plan_jobs(q.k, 1, inferred_tasks(run, q), "recover", q) for q in open_questions)
    label = run.config.evaluation.way.label
    _, failures = phases.work(f"recovering masks ({label})", plan, sum(q.k for q in open_questions))
    for question in open_questions:
        merge_recovery(run, question)
    by_k = {}
    for question in questions:
        metrics = recovery_metrics(run, question)
        if metrics is not None:
            draw_recovery(run, recovery_steps(run, question), question.label, question.k)
            by_k[str(question.k)] = metrics
    return ({scenario_key(run, SCENARIO): {label: by_k}} if by_k else {}), failures


def has_memory(run: Run) -> bool:
    """Tell whether masks can be recovered without their files."""
    return run.config.network.masks_outputs and any(q.memory.exists() for q in _questions(run))


def _questions(run: Run) -> list[RecoveryQuestion]:
    evaluation = run.config.evaluation
    spec = evaluation.hopfield
    if spec is None:
        return []
    return [
        RecoveryQuestion(
            hopfield=spec, k=k, num_batches=test_batches(run), memory=run.layout.memory(spec.rule, k)
        )
        for k in evaluation.points(run.config.benchmark.num_tasks)
    ]


def _ensure_memory(phases: Phases, question: RecoveryQuestion) -> bool:
    """Make the memory of the first k masks, unless it is there; tell whether it is now.

    Where the masks themselves are gone, a memory that is there is good.
    """
    run, path = phases.run, question.memory
    try:
        digests = leading_digests(run.store)[: question.k]
    except DamagedFileError:
        digests = []
    if len(digests) < question.k:
        return path.exists()
    wanted = joint_digest(digests)
    if stored_masks_digest(path) != wanted:
        phases.display.message(f"storing {question.k} masks in Psi ({question.hopfield.rule})")
        shapes = run.identity.shapes
        masks = [unpack(mask.bits, shapes) for mask in run.store.iterate(range(question.k))]
        memory = memorise(question.hopfield.rule, masks)
        write_memory(path, memory, run.identity.names, fingerprint=run.fingerprint, masks_digest=wanted)
    return True


def merge_recovery(run: Run, question: RecoveryQuestion) -> None:
    """Write both tables when every task is there, and drop the parts."""
    scored, steps = whole_parts(run, question), whole_parts(run, question, "steps")
    if scored is None or steps is None:
        return
    by_task = [("task", "ascending")]
    metadata = {
        "scenario": SCENARIO,
        "algorithm": "hopfield",
        "objective": question.hopfield.rule,
        "images": question.hopfield.adapt_on,
        "batches": "all" if question.num_batches is None else str(question.num_batches),
        "k": str(question.k),
        "fingerprint": run.fingerprint,
    }
    steps = steps.sort_by([*by_task, ("step", "ascending")]).combine_chunks()
    write_evaluation(run.layout.recovery(*place(question)), steps, metadata)
    scored = scored.sort_by([*by_task, ("batch", "ascending")]).combine_chunks()
    write_evaluation(table_path(run, question, SCENARIO), scored, metadata)
    drop_parts(run, question)


def recovery_metrics(run: Run, question: RecoveryQuestion) -> Metrics | None:
    """Return what the tables say, None without tables.

    Means over tasks, fractions: ``accuracy`` with the recovered masks, ``given_accuracy`` with the
    true ones on the same images. ``recovered``: share of masks found exactly; ``mean_steps`` to
    them, ``most_steps``. ``psi_bytes``; ``mask_bytes`` of one packed mask; ``break_even_tasks``
    from which on Psi is smaller than the masks. What needs the true masks is left out without them.
    """
    table = stored_table(run, question, SCENARIO)
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
        metrics |= _step_metrics(run, question)
    return metrics


def recovery_steps(run: Run, question: RecoveryQuestion) -> pa.Table:
    """Return each step of each recovery. Raises DamagedFileError."""
    return read_evaluation(run.layout.recovery(*place(question)), run.fingerprint)


def _step_metrics(run: Run, question: RecoveryQuestion) -> Metrics:
    steps = recovery_steps(run, question)
    tasks = pc.unique(steps["task"]).to_pylist()
    found = [
        steps_to_exact(steps.filter(pc.equal(steps["task"], task))["hamming"].to_numpy()) for task in tasks
    ]
    needed = [number for number in found if number is not None]
    metrics = {"recovered": len(needed) / len(found)}
    if needed:
        metrics |= {"mean_steps": float(np.mean(needed)), "most_steps": float(max(needed))}
    return metrics
