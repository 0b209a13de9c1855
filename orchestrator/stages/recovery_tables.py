"""Tables of HopSupSup: what recovered masks classify, and each step of each recovery."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.hopfield.memory import memory_num_bytes, steps_to_exact
from core.masks.bits import packed_num_bytes
from orchestrator.execution.jobs import RecoveryQuestion
from orchestrator.runs.run import Run
from orchestrator.stages.inferred import (
    Metrics,
    drop_parts,
    mean,
    place,
    stored_table,
    table_path,
    whole_parts,
)
from storage.tables import read_evaluation, task_accuracies, task_shares, write_evaluation

SCENARIO = "GNs"


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
