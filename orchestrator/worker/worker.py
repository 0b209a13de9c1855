"""A worker: builds the network and loads the data once, then does jobs of any kind.

A plain class, independent of executors; needs torch, but neither Ray nor MLflow.
"""

import os
from dataclasses import replace
from pathlib import Path

import torch

from core.data.datasets import Dataset
from core.errors import ForeignWorkerError
from core.own_code.files import code_digest, is_code
from core.own_code.imports import find_code_in
from core.own_code.permission import allow_more, code_is_allowed
from orchestrator.execution.executor import ignore_steps, never_stopping
from orchestrator.execution.jobs import IsStopping, Job, JobResult, ReportSteps, WorkerSetup
from orchestrator.worker import make_handler
from orchestrator.worker.base import Handler, WorkerContext
from storage.layout import host_name


class Worker:
    """Runs jobs one after another on one base network and one data set."""

    def __init__(self, setup: WorkerSetup, dataset: Dataset) -> None:
        self._setup, self._context = setup, WorkerContext(setup, dataset)
        self.on_steps: ReportSteps = ignore_steps
        self.is_stopping: IsStopping = never_stopping
        self._handlers: dict[str, Handler] = {}
        if setup.code_digests:
            _allow_code(setup)

    def run(self, job: Job) -> JobResult:
        """Do ``job``; its output is on disk when this returns."""
        torch.set_num_threads(self._setup.num_threads)
        self._context.on_steps, self._context.is_stopping = self.on_steps, self.is_stopping
        # After an error, drop the handler: its memory may be inconsistent with the disk.
        handler = self._handlers.pop(job.kind, None) or make_handler(job.kind, self._context)
        result = handler.run(job)
        self._handlers[job.kind] = handler
        return replace(result, network_digest=result.network_digest or self._context.digest())


def _enter(folder: str) -> None:
    """Import the user's network from her folder, which her code may read files of."""
    if Path(folder).is_dir():  # not on every node
        os.chdir(folder)
    find_code_in(folder)


def _allow_code(setup: WorkerSetup) -> None:
    """Allow the user's own code here too. Raises ForeignWorkerError if it is other code than the run's."""
    if setup.code_folder is not None:
        _enter(setup.code_folder)
    for code in setup.spec.worker_code:
        recorded = setup.code_digests.get(code.key)
        if recorded is None:
            continue
        if not is_code(code, recorded):
            raise ForeignWorkerError(
                f"{code.import_path} on {host_name()} is not the code that the run was made with: digest "
                f"{code_digest(code)[:16]}..., expected {recorded[:16]}...; put the same files there"
            )
        if not code_is_allowed(code):
            allow_more([code_digest(code)])
