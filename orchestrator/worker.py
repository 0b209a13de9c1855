"""A worker: builds the network and takes the data once, then trains cohorts to files.

A plain class that knows no executor. It needs torch, and nothing of Ray or MLflow.
"""

import os
import time
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch._dynamo.exc import TorchDynamoException

from core.benchmarks import task_view
from core.datasets import Dataset
from core.engine import make_step
from core.errors import RunFolderError, first_line
from core.evaluation import correct_images
from core.evaluation_batches import batch_counts
from core.inputs import Pixels, to_device
from core.masks import pack, unpack
from core.networks import base_weights, network_digest
from core.specs import Engine
from core.training import CohortResult, StepFunction, train_cohort
from orchestrator.jobs import Job, JobResult, TaskReport, WorkerSetup
from storage.layout import host_name
from storage.mask_store import MaskStore, TaskMask


class Worker:
    """Runs jobs one after another against one base network and one data set."""

    def __init__(self, setup: WorkerSetup, dataset: Dataset) -> None:
        self._setup = setup
        self._dataset = dataset
        self._engine: Engine = setup.engine
        self._note: str | None = None

    def run(self, job: Job) -> JobResult:
        """Do ``job``; a trained cohort is on disk when this returns."""
        torch.set_num_threads(self._setup.num_threads)
        return self._train(job) if job.kind == "train" else self._evaluate(job)

    @cached_property
    def _device(self) -> torch.device:
        return torch.device(self._setup.device)

    @cached_property
    def _base(self) -> list[torch.Tensor]:
        spec = self._setup.spec
        weights = base_weights(spec.network, self._dataset.num_inputs, seed=spec.seed)
        found, expected = network_digest(weights), self._setup.identity.network["digest"]
        if found != expected:
            raise RunFolderError(
                f"the base network built on {host_name()} has digest {found[:16]}..., the run has "
                f"{expected[:16]}...: install the same numpy there (run.json lists versions)"
            )
        return [torch.from_numpy(weight).to(self._device) for weight in weights]

    @cached_property
    def _pixels(self) -> tuple[Pixels, Pixels]:
        return to_device(self._dataset, "train", self._device), to_device(self._dataset, "test", self._device)

    @cached_property
    def _store(self) -> MaskStore:
        return MaskStore(self._setup.layout, self._setup.identity)

    @cached_property
    def _steps(self) -> dict[Engine, StepFunction]:
        optimizer = self._setup.spec.training.optimizer
        return {engine: make_step(optimizer, engine) for engine in {"eager", self._setup.engine}}

    def _train(self, job: Job) -> JobResult:
        result = self._train_cohort(job)
        finished_s = time.time()
        masks = [self._task_mask(result, k) for k in range(len(result.tasks))]
        self._store.write_cohort(masks, self._provenance(finished_s))
        num_weights = sum(weight.numel() for weight in self._base)
        reports = tuple(
            TaskReport(
                task=mask.task,
                test_accuracy=mask.test_accuracy,
                train_loss=mask.train_loss,
                train_seconds=mask.train_seconds,
                density=mask.density(num_weights),
                finished_s=finished_s,
            )
            for mask in masks
        )
        return JobResult(reports=reports, note=self._note)

    def _train_cohort(self, job: Job) -> CohortResult:
        train = partial(
            train_cohort,
            self._setup.spec,
            job.tasks,
            self._dataset,
            pixels=self._pixels[0],
            base=self._base,
        )
        if self._engine == "compiled":
            try:
                return train(step=self._steps["compiled"])
            except TorchDynamoException as error:
                # No working compiler on this machine: slower, recorded in the file, not fatal.
                reason = first_line(error)[:200]
                self._note = f"{host_name()} cannot compile the training step ({reason}); it trains eagerly"
                self._engine = "eager"
        return train(step=self._steps["eager"])

    def _task_mask(self, result: CohortResult, k: int) -> TaskMask:
        mask = tuple(layer[k] for layer in result.masks)
        return TaskMask(
            task=result.tasks[k],
            bits=pack(mask).tobytes(),
            test_accuracy=float(self._correct(result.tasks[k], mask).mean()),
            train_loss=float(result.train_loss[k]),
            train_seconds=result.train_seconds,
        )

    def _correct(self, task: int, mask: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
        spec = self._setup.spec
        view = task_view(spec.benchmark, self._dataset, task, seed=spec.seed)
        return correct_images(view, self._pixels[1], self._base, mask)

    def _evaluate(self, job: Job) -> JobResult:
        counts = []
        for stored in self._store.iterate(job.tasks):
            mask = unpack(stored.bits, self._setup.identity.shapes)
            batches = batch_counts(self._correct(stored.task, mask))[: self._setup.test_batches]
            counts.append((stored.task, tuple(int(count) for count in batches)))
        return JobResult(correct=tuple(counts))

    def _provenance(self, finished_s: float) -> dict[str, Any]:
        on_gpu = self._device.type == "cuda"
        return {
            **self._setup.provenance,
            "torch": torch.__version__,
            "engine": self._engine,
            "device": torch.cuda.get_device_name(self._device) if on_gpu else "cpu",
            "num_threads": self._setup.num_threads,
            "host": host_name(),
            "process_id": os.getpid(),
            "finished_s": finished_s,
        }
