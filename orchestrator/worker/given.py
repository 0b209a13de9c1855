"""Test stored masks with the task given."""

import numpy as np

from core.masks.bits import unpack
from orchestrator.execution.jobs import Job, JobResult
from orchestrator.worker.base import WorkerContext
from storage.mask_store import norm_statistics


class Given:
    """A ``Handler``: counts the test images that each task's own mask classifies correctly."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def run(self, job: Job) -> JobResult:
        """See ``Handler``."""
        context = self._context
        stored = list(context.store.iterate(job.tasks))
        unpacked = [unpack(mask.bits, context.setup.identity.shapes) for mask in stored]
        masks = [np.stack(layer) for layer in zip(*unpacked, strict=True)]
        correct = context.family.correct(context.problem, job.tasks, masks, norm_statistics(stored))
        return JobResult(correct=context.counts(job.tasks, correct))
