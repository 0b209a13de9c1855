"""A worker: builds the network and loads the data once, then does jobs of any kind.

A plain class, independent of executors; needs torch, but neither Ray nor MLflow.
"""

from dataclasses import replace

import torch

from core.data.datasets import Dataset
from core.networks.user_code import allow_code
from orchestrator.execution.executor import ignore_steps, never_stopping
from orchestrator.execution.jobs import IsStopping, Job, JobResult, ReportSteps, WorkerSetup
from orchestrator.worker import make_handler
from orchestrator.worker.base import Handler, WorkerContext


class Worker:
    """Runs jobs one after another on one base network and one data set."""

    def __init__(self, setup: WorkerSetup, dataset: Dataset) -> None:
        self._setup, self._context = setup, WorkerContext(setup, dataset)
        self.on_steps: ReportSteps = ignore_steps
        self.is_stopping: IsStopping = never_stopping
        self._handlers: dict[str, Handler] = {}
        if setup.allows_code:
            allow_code(setup.code_folder)

    def run(self, job: Job) -> JobResult:
        """Do ``job``; its output is on disk when this returns."""
        torch.set_num_threads(self._setup.num_threads)
        self._context.on_steps, self._context.is_stopping = self.on_steps, self.is_stopping
        # After an error, drop the handler: its memory may be inconsistent with the disk.
        handler = self._handlers.pop(job.kind, None) or make_handler(job.kind, self._context)
        result = handler.run(job)
        self._handlers[job.kind] = handler
        return replace(result, network_digest=result.network_digest or self._context.digest())
