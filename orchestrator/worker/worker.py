"""A worker: builds the network and takes the data once, then does jobs of any kind.

A plain class that knows no executor. It needs torch, and nothing of Ray or MLflow.
"""

from dataclasses import replace

import torch

from core.data.datasets import Dataset
from core.networks.user_code import allow_code
from orchestrator.execution.jobs import Job, JobResult, WorkerSetup
from orchestrator.worker import make_handler
from orchestrator.worker.base import Handler, WorkerContext


class Worker:
    """Runs jobs one after another against one base network and one data set."""

    def __init__(self, setup: WorkerSetup, dataset: Dataset) -> None:
        self._setup, self._context = setup, WorkerContext(setup, dataset)
        self._handlers: dict[str, Handler] = {}
        if setup.allows_code:
            allow_code(setup.code_folder)

    def run(self, job: Job) -> JobResult:
        """Do ``job``; what it gave is on disk when this returns."""
        torch.set_num_threads(self._setup.num_threads)
        # After an error what is on disk counts, not what a handler had in memory: it starts anew.
        handler = self._handlers.pop(job.kind, None) or make_handler(job.kind, self._context)
        result = handler.run(job)
        self._handlers[job.kind] = handler
        return replace(result, network_digest=result.network_digest or self._context.digest())
