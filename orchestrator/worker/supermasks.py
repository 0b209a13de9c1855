"""Train supermasks one cohort at a time, with checkpoints and transfer."""

import time

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
from storage.mask_files import MaskFiles
from storage.mask_store import MaskStore, TaskMask


class Cohorts:
    """A ``Handler``: trains, tests and stores the masks of a cohort."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._kept = KeptWeights(context.store)

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
        path = context.store.write_cohort(masks, context.provenance(finished_s) | more)
        checkpointer.end()
        return JobResult(
            reports=task_reports(masks, path),
            correct=context.counts(result.tasks, correct),
            note="\n".join(words for words in (checkpointer.note, *notes) if words) or None,
            network_digest=digest,
            fitting=(context.device_name, context.tasks_at_once) if result.ran_out else None,
        )

    def train(self, job: Job, checkpointer: JobCheckpointer) -> tuple[CohortResult, list[str]]:
        """Return the trained masks, and notes on engines that cannot be used here and memory that ran out."""
        context, notes = self._context, []
        earlier = earlier_tasks(context.setup, self._kept, job.first)
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


def earlier_tasks(setup: WorkerSetup, kept: "KeptWeights", task: int) -> Earlier | None:
    """Return what ``task`` starts from, None without transfer. Raises RunFolderError if it is missing."""
    kind = setup.spec.training.transfer
    if kind == "none" or task == 0:
        return None
    if kind == "scores":
        sums = read_score_sum(setup.layout, task, setup.identity.fingerprint)
    else:
        sums = kept.sums(task)
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


class KeptWeights:
    """How many of the first masks keep each weight, counted on from the last time: each mask is read once."""

    def __init__(self, store: MaskStore) -> None:
        self._store = store
        self._restart()

    def _restart(self) -> None:
        self._num, self._sums = 0, [np.zeros(shape) for shape in self._store.identity.shapes]

    def sums(self, num: int) -> list[NDArray[np.float64]]:
        """Return the counts over the first ``num`` masks, float64 per layer. Raises RunFolderError."""
        if num < self._num:  # an earlier task is trained again
            self._restart()
        tasks = range(self._num, num)
        for bits in self._store.iterate_bits(tasks, self._files(tasks)):
            layers = unpack(bits, self._store.identity.shapes)
            self._sums = [total + layer for total, layer in zip(self._sums, layers, strict=True)]
            self._num += 1
        return self._sums

    def _files(self, tasks: range) -> MaskFiles | None:
        """Return the files of tasks that were trained one by one, by their names; None if they must be listed."""
        paths = [self._store.layout.cohort(task, task) for task in tasks]
        are_there = len(tasks) == 1 and paths[0].exists()
        return self._store.named([paths[0].name]) if are_there else None


def _task_mask(result: CohortResult, k: int, test_accuracy: float) -> TaskMask:
    return TaskMask(
        task=result.tasks[k],
        bits=pack([layer[k] for layer in result.masks]).tobytes(),
        test_accuracy=test_accuracy,
        train_loss=float(result.train_loss[k]),
        train_seconds=result.train_seconds,
        norm_stats=None if result.statistics is None else result.statistics[k].astype("<f4").tobytes(),
    )
