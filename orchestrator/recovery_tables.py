"""Tables of HopSupSup: what recovered masks classify, and each step of each recovery."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.evaluation_batches import batch_sizes
from core.recovery import Recovery
from core.specs import TEST_BATCH_SIZE
from orchestrator.inference_tables import (
    Metrics,
    drop_parts,
    mean,
    place,
    stored_table,
    table_path,
    whole_parts,
)
from orchestrator.jobs import RecoveryQuestion
from orchestrator.run_folder import Run
from storage.layout import RunLayout
from storage.tables import read_evaluation, task_accuracies, task_shares, write_evaluation

SCENARIO = "GNs"


def write_recovery_part(
    layout: RunLayout,
    fingerprint: str,
    question: RecoveryQuestion,
    *,
    task: int,
    recovery: Recovery,
    counts: dict[str, Any],
) -> None:
    """Commit what became of one task: its steps first, since the other file says that it is done.

    counts: int32 columns ``first_image``, ``num_correct`` and ``num_correct_given`` (or None).
    """
    metadata = {"fingerprint": fingerprint, "k": str(question.k)}
    steps = layout.recovery_part(*place(question), task, task)
    write_evaluation(steps, _steps_table(task, recovery), metadata)
    scored = layout.evaluation_part(*place(question), task, task)
    write_evaluation(scored, _scored_table(task, counts), metadata)


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


def recovery_metrics(run: Run, question: RecoveryQuestion, *, psi_bytes: int) -> Metrics | None:
    """Return what the tables say, None without tables.

    Means over tasks, fractions: ``accuracy`` with the recovered masks, ``given_accuracy`` with the
    true ones on the same images. ``recovered``: share of masks found exactly; ``mean_steps`` to
    them, ``most_steps``. ``psi_bytes``; ``mask_bytes`` of one packed mask; ``break_even_tasks``
    from which on Psi is smaller than the masks. What needs the true masks is left out without them.
    """
    table = stored_table(run, question, SCENARIO)
    if table is None:
        return None
    bits = sum(int(np.prod(shape)) for shape in run.identity.shapes)
    mask_bytes = -(-bits // 8)
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


def exact_steps(steps: pa.Table) -> dict[int, int | None]:
    """Return, by task, after how many steps its mask was found for good; None where it was not."""
    found: dict[int, int | None] = {}
    for task in pc.unique(steps["task"]).to_pylist():
        hamming = steps.filter(pc.equal(steps["task"], task))["hamming"].to_numpy()
        wrong = np.flatnonzero(hamming)
        last = int(wrong[-1]) + 1 if len(wrong) else 0
        found[task] = None if last == len(hamming) else last
    return found


def _step_metrics(run: Run, question: RecoveryQuestion) -> Metrics:
    found = exact_steps(recovery_steps(run, question))
    needed = [number for number in found.values() if number is not None]
    metrics = {"recovered": len(needed) / len(found)}
    if needed:
        metrics |= {"mean_steps": float(np.mean(needed)), "most_steps": float(max(needed))}
    return metrics


def _steps_table(task: int, recovery: Recovery) -> pa.Table:
    num = len(recovery.energy)
    return pa.table(
        {
            "task": np.full(num, task, dtype=np.int32),
            "step": np.arange(num, dtype=np.int32),
            "hamming": pa.nulls(num, pa.int32()) if recovery.hamming is None else recovery.hamming,
            "energy": recovery.energy,
            "entropy": [*recovery.entropy.tolist(), None],
        }
    )


def _scored_table(task: int, counts: dict[str, Any]) -> pa.Table:
    num = len(counts["num_correct"])
    given = counts["num_correct_given"]
    return pa.table(
        {
            "task": np.full(num, task, dtype=np.int32),
            "batch": np.arange(num, dtype=np.int32),
            "first_image": counts["first_image"],
            "num_images": counts["num_images"],
            "inferred_task": pa.nulls(num, pa.int32()),
            "num_correct": counts["num_correct"],
            "num_correct_given": pa.nulls(num, pa.int32()) if given is None else given,
        }
    )


def scored_counts(num_scored: int, stride: int, offset: int, num_batches: int | None) -> dict[str, Any]:
    """Return first image and size of each batch of 128 scored images.

    stride, offset: image i of those scored is image ``i * stride + offset`` of the test set.
    """
    sizes = batch_sizes(num_scored)[:num_batches]
    first = np.arange(len(sizes), dtype=np.int32) * TEST_BATCH_SIZE * stride + offset
    return {"first_image": first.astype(np.int32), "num_images": sizes}
