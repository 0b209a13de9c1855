"""Train supermasks one cohort at a time, with checkpoints and transfer."""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import first_line
from core.masks.bits import pack, unpack
from core.training.chunks import CohortResult
from core.training.cohort import TrainingContext
from core.training.engine import is_missing
from core.training.transfer import Earlier
from orchestrator.execution.jobs import Job, JobResult, WorkerSetup, task_reports
from orchestrator.worker.base import WorkerContext
from orchestrator.worker.checkpointer import JobCheckpointer
from storage.checkpoints import read_score_sum, write_score_sum
from storage.mask_store import MaskStore, TaskMask


class Cohorts:
    """A ``Handler``: trains, tests and stores the masks of a cohort."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def run(self, job: Job) -> JobResult:
        """See ``Handler``."""
        context, started_s = self._context, time.time()
        checkpointer = JobCheckpointer(context, job)
        result, notes = self.train(job, checkpointer)
        finished_s = time.time()
        correct = context.family.correct(context.problem, result)
        masks = [_task_mask(result, k, float(one.mean())) for k, one in enumerate(correct)]
        digest = context.checked_digest()
        keep_scores(context.setup, result)
        more = {"started_s": started_s, "tasks_at_once": result.tasks_at_once}
        context.store.write_cohort(masks, context.provenance(finished_s) | more)
        checkpointer.end()
        return JobResult(
            reports=task_reports(masks),
            correct=context.counts(result.tasks, correct),
            note="\n".join(words for words in (checkpointer.note, *notes) if words) or None,
            network_digest=digest,
            fitting=(context.device_name, context.tasks_at_once) if result.ran_out else None,
        )

    def train(self, job: Job, checkpointer: JobCheckpointer) -> tuple[CohortResult, list[str]]:
        """Return the trained masks, and notes on engines that cannot be used here and memory that ran out."""
        context, notes = self._context, []
        earlier = earlier_tasks(context.setup, context.store, job.first)
        if context.engine == "fused" and context.device.type == "cuda":
            notes.append(context.change_engine("trains on a GPU"))
        while True:
            try:
                how = TrainingContext(context.step, checkpointer, earlier, context.tasks_at_once)
                result = context.family.train(context.problem, job.tasks, how)
            except Exception as error:
                # No numba, or no working compiler: slower and recorded in the mask file, not fatal.
                if context.engine == "eager" or not is_missing(error):
                    raise
                notes.append(context.change_engine(f"cannot train with it ({first_line(error)[:200]})"))
                continue
            if result.ran_out:
                notes.append(context.remember_fitting(result.tasks_at_once))
            return result, notes


def earlier_tasks(setup: WorkerSetup, store: MaskStore, task: int) -> Earlier | None:
    """Return what ``task`` starts from, None without transfer. Raises RunFolderError if it is missing."""
    kind = setup.spec.training.transfer
    if kind == "none" or task == 0:
        return None
    if kind == "scores":
        sums = read_score_sum(setup.layout, task, setup.identity.fingerprint)
    else:
        sums = _mask_sums(store, range(task))
    return Earlier(kind, task, tuple((layer / task).astype(np.float32) for layer in sums))


def keep_scores(setup: WorkerSetup, result: CohortResult) -> None:
    """Add a task's scores to the sum over earlier tasks, if later tasks start from scores."""
    if not result.scores:
        return
    (task,) = result.tasks
    # top_k ranks by |score|; in a mean of signed scores, large ones would cancel.
    magnitude = np.abs if setup.spec.mask.rule == "top_k" else np.asarray
    sums = [magnitude(layer[0]).astype(np.float64) for layer in result.scores]
    if task:
        before = read_score_sum(setup.layout, task, setup.identity.fingerprint)
        sums = [total + own for total, own in zip(before, sums, strict=True)]
    write_score_sum(setup.layout, task + 1, sums, setup.identity.fingerprint)


def _mask_sums(store: MaskStore, tasks: Sequence[int]) -> list[NDArray[np.float64]]:
    sums = [np.zeros(shape) for shape in store.identity.shapes]
    for mask in store.iterate(tasks):
        kept = unpack(mask.bits, store.identity.shapes)
        sums = [total + layer for total, layer in zip(sums, kept, strict=True)]
    return sums


def _task_mask(result: CohortResult, k: int, test_accuracy: float) -> TaskMask:
    return TaskMask(
        task=result.tasks[k],
        bits=pack([layer[k] for layer in result.masks]).tobytes(),
        test_accuracy=test_accuracy,
        train_loss=float(result.train_loss[k]),
        train_seconds=result.train_seconds,
        norm_stats=None if result.statistics is None else result.statistics[k].astype("<f4").tobytes(),
    )
