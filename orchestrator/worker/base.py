"""What all handlers of a worker share: the problem, the masks, the engine and the provenance."""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from core.batches.problem import Problem
from core.data.datasets import Dataset
from core.data.test_rows import batch_counts
from core.errors import ForeignWorkerError, plural
from core.families import Network, family_of
from core.machine import blas, instruction_set
from core.networks.base import network_digest
from core.specs.training import Engine
from core.training.choose_engine import next_engine
from core.training.cohort import Step
from core.training.engine import make_step
from orchestrator.execution.executor import ignore_steps, never_stopping
from orchestrator.execution.jobs import IsStopping, Job, JobResult, ReportSteps, WorkerSetup
from storage.layout import host_name
from storage.mask_store import MaskStore


class Handler(Protocol):
    """The worker's half of one kind of work; may cache state between jobs."""

    def run(self, job: Job) -> JobResult:
        """Do ``job``; its output is on disk when this returns."""
        ...


class WorkerContext:
    """One base network and one data set on one device, shared by all handlers of a worker.

    engine: the current training engine; ``change_engine`` replaces it. tasks_at_once: the most that train together;
    less than a cohort once memory ran out (``remember_fitting``).
    """

    def __init__(self, setup: WorkerSetup, dataset: Dataset) -> None:
        self.setup, self._dataset = setup, dataset
        self.device = torch.device(setup.device)
        self.engine: Engine = setup.engine
        self.tasks_at_once = min(setup.cohort_size, setup.fitting.get(self.device_name, setup.cohort_size))
        self.on_steps: ReportSteps = ignore_steps
        self.is_stopping: IsStopping = never_stopping

    @cached_property
    def problem(self) -> Problem:
        """The tasks on the device. Raises ForeignWorkerError if the base network differs from the run's."""
        problem = Problem(self.setup.spec, self._dataset, self.device)
        found, expected = _digest(problem), self.setup.identity.network["digest"]
        if found != expected:
            raise ForeignWorkerError(
                f"the base network built on {host_name()} has digest {found[:16]}..., but the run has "
                f"{expected[:16]}...: install the same numpy there (run.json lists versions)"
            )
        return problem

    @cached_property
    def store(self) -> MaskStore:
        """The masks of the run."""
        return MaskStore(self.setup.layout, self.setup.identity)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the run."""
        return self.setup.identity.fingerprint

    @property
    def family(self) -> Network:
        """The family of the base network."""
        return family_of(self.setup.spec.network)

    @cached_property
    def step(self) -> Step:
        """The training step of the engine."""
        return make_step(self.setup.spec.training, self.engine, self.setup.spec.mask)

    def change_engine(self, reason: str) -> str:
        """Switch to the next best engine; return a note for the user."""
        wanted, on_gpu = self.engine, self.device.type == "cuda"
        self.engine = next_engine(wanted, self.setup.spec.training, on_gpu=on_gpu)
        self.__dict__.pop("step", None)
        return f"engine {wanted}: {host_name()} {reason}; continuing with {self.engine}"

    @cached_property
    def device_name(self) -> str:
        """The name of the GPU, or ``cpu``."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def remember_fitting(self, tasks_at_once: int) -> str:
        """Train fewer tasks together from now on; return a note for the user."""
        self.tasks_at_once = tasks_at_once
        return (
            f"memory ran out on {host_name()} ({self.device_name}): from now on {plural(tasks_at_once, 'task')} of a "
            "cohort train together"
        )

    def digest(self) -> str:
        """Return the digest of the base network in memory."""
        return _digest(self.problem)

    def checked_digest(self) -> str:
        """Return the digest; raise ForeignWorkerError if the network was overwritten in memory."""
        found, expected = self.digest(), self.setup.identity.network["digest"]
        if found != expected:
            raise ForeignWorkerError(
                f"the base network on {host_name()} has changed in memory: digest {found[:16]}..., expected "
                f"{expected[:16]}...; nothing of this cohort was stored"
            )
        return found

    def counts(
        self, tasks: Sequence[int], correct: Sequence[NDArray[np.bool_]]
    ) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Return (task, number of correct images in each requested test batch)."""
        most = self.setup.test_batches
        return tuple(
            (task, tuple(int(count) for count in batch_counts(one)[:most]))
            for task, one in zip(tasks, correct, strict=True)
        )

    def machine(self) -> dict[str, Any]:
        """Return what must match for training to resume from a checkpoint with identical bits."""
        return {
            "engine": self.engine,
            "device": self.device.type,
            "torch": torch.__version__,
            **_arithmetic(),
        }

    def provenance(self, finished_s: float) -> dict[str, Any]:
        """Return the provenance recorded in a mask file."""
        return {
            **self.setup.provenance,
            **_arithmetic(),
            "torch": torch.__version__,
            "engine": self.engine,
            "device": self.device_name,
            "num_threads": self.setup.num_threads,
            "host": host_name(),
            "process_id": os.getpid(),
            "finished_s": finished_s,
        }


def _arithmetic() -> dict[str, str]:
    return {"instructions": instruction_set(), "blas": blas(torch.__config__.show())}


def _digest(problem: Problem) -> str:
    return network_digest([weight.cpu().numpy() for weight in problem.base])
