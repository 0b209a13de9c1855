"""Test stored masks with the task given."""

import numpy as np

from core.masks.bits import unpack
from core.training.chunks import CohortMasks
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
        stored = list(context.store.iterate(job.tasks, context.store.named(job.files)))
        unpacked = [unpack(mask.bits, context.setup.identity.shapes) for mask in stored]
        masks = tuple(np.stack(layer) for layer in zip(*unpacked, strict=True))
        trained = CohortMasks(tasks=tuple(job.tasks), masks=masks, statistics=norm_statistics(stored))
        correct = context.family.correct(context.problem, trained)
        return JobResult(correct=context.counts(job.tasks, correct))
