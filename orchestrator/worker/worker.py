"""A worker: builds the network and takes the data once, then trains cohorts to files.

A plain class that knows no executor. It needs torch, and nothing of Ray or MLflow.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.baselines.method import Setting
from core.batches.inputs import Pixels, to_device
from core.data.benchmarks import TaskView, task_view
from core.data.datasets import Dataset
from core.data.test_rows import batch_counts
from core.errors import ForeignWorkerError, first_line
from core.hopfield.network import correct_outputs, train_outputs
from core.inference.evaluation import correct_images
from core.masks.bits import pack, unpack
from core.networks.base import base_weights, draw_weights, network_digest
from core.networks.module import ModuleNetwork
from core.networks.user_code import allow_code
from core.specs.training import Engine
from core.training.choose_engine import without_compiler
from core.training.cohort import CohortResult, Step, train_cohort
from core.training.engine import is_missing, make_step
from orchestrator.execution.jobs import Job, JobResult, RecoveryRequest, WorkerSetup, task_reports
from orchestrator.worker.baseline import BaselineWork
from orchestrator.worker.inferred import InferenceWork
from orchestrator.worker.modules import ModuleWork, built_network
from orchestrator.worker.recovered import recover_task
from orchestrator.worker.stream import StreamWork
from orchestrator.worker.supermasks import CohortCheckpointer, earlier_tasks, keep_scores
from storage.layout import host_name
from storage.mask_store import MaskStore, TaskMask


class Worker:
    """Runs jobs one after another against one base network and one data set."""

    def __init__(self, setup: WorkerSetup, dataset: Dataset) -> None:
        self._setup = setup
        self._dataset = dataset
        self._engine: Engine = setup.engine
        self._note: str | None = None
        self._stream: StreamWork | None = None
        if setup.allows_code:
            allow_code(setup.code_folder)

    def run(self, job: Job) -> JobResult:
        """Do ``job``; a trained cohort is on disk when this returns."""
        torch.set_num_threads(self._setup.num_threads)
        ways = {
            "train": self._train,
            "evaluate": self._evaluate,
            "infer": self._infer,
            "recover": self._recover,
            "stream": self._go_through,
            "baseline": self._learn,
        }
        result = ways[job.kind](job)
        return replace(result, network_digest=result.network_digest or self._network_digest())

    @cached_property
    def _device(self) -> torch.device:
        return torch.device(self._setup.device)

    @cached_property
    def _base(self) -> list[torch.Tensor]:
        spec = self._setup.spec
        if spec.network.is_module:
            weights = draw_weights(self._network.shapes, seed=spec.seed)
        else:
            weights = base_weights(spec.network, self._dataset.num_inputs, seed=spec.seed)
        found, expected = network_digest(weights), self._setup.identity.network["digest"]
        if found != expected:
            raise ForeignWorkerError(
                f"the base network built on {host_name()} has digest {found[:16]}..., the run has "
                f"{expected[:16]}...: install the same numpy there (run.json lists versions)"
            )
        return [torch.from_numpy(weight).to(self._device) for weight in weights]

    @cached_property
    def _network(self) -> ModuleNetwork:
        return built_network(self._setup.spec, self._device)

    @cached_property
    def _modules(self) -> ModuleWork:
        return ModuleWork(self._setup.spec, self._dataset, self._network, tuple(self._base), self._pixels)

    @cached_property
    def _baseline(self) -> BaselineWork:
        setting = Setting(self._setup.spec, self._dataset, self._network, self._pixels)
        return BaselineWork(self._setup, setting)

    def _network_digest(self) -> str:
        """Return the digest of the base network as it is in memory now."""
        return network_digest([weight.cpu().numpy() for weight in self._base])

    def _checked_digest(self) -> str:
        """Return it; raise ForeignWorkerError, before anything is stored, when the network was overwritten."""
        found, expected = self._network_digest(), self._setup.identity.network["digest"]
        if found != expected:
            raise ForeignWorkerError(
                f"the base network on {host_name()} has changed in memory: digest {found[:16]}..., expected "
                f"{expected[:16]}...; nothing of this cohort was stored"
            )
        return found

    @cached_property
    def _pixels(self) -> tuple[Pixels, Pixels]:
        train = to_device(self._dataset, "train", self._device)
        if self._setup.spec.benchmark.test_on == "validation":
            return train, train
        return train, to_device(self._dataset, "test", self._device)

    @cached_property
    def _store(self) -> MaskStore:
        return MaskStore(self._setup.layout, self._setup.identity)

    @cached_property
    def _step(self) -> Step:
        return make_step(self._setup.spec.training, self._engine, self._setup.spec.mask)

    def _train(self, job: Job) -> JobResult:
        started_s = time.time()
        checkpointer = CohortCheckpointer(self._setup, job, self._machine())
        result = self._train_cohort(job, checkpointer)
        finished_s = time.time()
        correct = self._correct_trained(result)
        masks = [_task_mask(result, k, float(correct[k].mean())) for k in range(len(result.tasks))]
        digest = self._checked_digest()
        keep_scores(self._setup, result)
        self._store.write_cohort(masks, self._provenance(finished_s) | {"started_s": started_s})
        checkpointer.end()
        note = "\n".join(words for words in (checkpointer.note, self._note) if words) or None
        return JobResult(
            reports=task_reports(masks),
            correct=self._counts(result.tasks, correct),
            note=note,
            network_digest=digest,
        )

    def _train_cohort(self, job: Job, checkpointer: CohortCheckpointer) -> CohortResult:
        earlier = earlier_tasks(self._setup, self._store, job.first)
        if self._setup.spec.network.is_module:
            return self._modules.train(job.tasks, checkpointer, earlier)
        if self._setup.spec.network.masks_outputs:
            return train_outputs(
                self._setup.spec, job.tasks, self._dataset, pixels=self._pixels[0], base=self._base
            )
        if self._engine == "fused" and self._device.type == "cuda":
            self._change_engine("trains on a GPU")
        train = partial(
            train_cohort,
            self._setup.spec,
            job.tasks,
            self._dataset,
            pixels=self._pixels[0],
            base=self._base,
            checkpointer=checkpointer,
            earlier=earlier,
        )
        while True:
            try:
                return train(step=self._step)
            except Exception as error:
                # No numba, or no working compiler: slower, recorded in the file, not fatal.
                if self._engine == "eager" or not is_missing(error):
                    raise
                self._change_engine(f"cannot train with it ({first_line(error)[:200]})")

    def _change_engine(self, reason: str) -> None:
        """Go on with the next best engine, and say so with the next result."""
        wanted, training = self._engine, self._setup.spec.training
        on_gpu = self._device.type == "cuda"
        self._engine = "eager" if wanted == "fused" else without_compiler(training, on_gpu=on_gpu)
        self.__dict__.pop("_step", None)
        self._note = f"engine {wanted}: {host_name()} {reason}; it goes on with {self._engine}"

    def _view(self, task: int) -> TaskView:
        spec = self._setup.spec
        return task_view(spec.benchmark, self._dataset, task, seed=spec.seed)

    def _views(self, tasks: Sequence[int]) -> list[TaskView]:
        return [self._view(task) for task in tasks]

    def _evaluate(self, job: Job) -> JobResult:
        stored = list(self._store.iterate(job.tasks))
        if self._setup.spec.network.is_module:
            return JobResult(correct=self._counts(job.tasks, self._modules.correct_stored(stored)))
        unpacked = [unpack(mask.bits, self._setup.identity.shapes) for mask in stored]
        masks = [np.stack(layer) for layer in zip(*unpacked, strict=True)]
        tasks = [mask.task for mask in stored]
        correct = self._correct(tasks, masks)
        return JobResult(correct=self._counts(tasks, correct))

    def _correct_trained(self, result: CohortResult) -> list[NDArray[np.bool_]]:
        if self._setup.spec.network.is_module:
            return self._modules.correct_trained(result)
        return self._correct(result.tasks, result.masks)

    def _correct(self, tasks: Sequence[int], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
        """Tell for each test image of each task whether its own mask classifies it."""
        pixels, base = self._pixels[1], self._base
        if not self._setup.spec.network.masks_outputs:
            return correct_images(self._views(tasks), pixels, base, masks)
        return correct_outputs(self._setup.spec, tasks, self._dataset, pixels=pixels, base=base, masks=masks)

    def _counts(
        self, tasks: Sequence[int], correct: Sequence[NDArray[np.bool_]]
    ) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Return the correct images of each test batch that is asked for, by task."""
        most = self._setup.test_batches
        batches = [batch_counts(of_task)[:most] for of_task in correct]
        return tuple(
            (task, tuple(int(count) for count in counts)) for task, counts in zip(tasks, batches, strict=True)
        )

    @cached_property
    def _inference(self) -> InferenceWork:
        return InferenceWork(
            self._setup,
            self._dataset,
            base=tuple(self._base),
            pixels=self._pixels[1],
            store=self._store,
            modules=self._modules if self._setup.spec.network.is_module else None,
        )

    def _infer(self, job: Job) -> JobResult:
        return self._inference.infer(job)

    def _recover(self, job: Job) -> JobResult:
        request, setup = job.request, self._setup
        assert isinstance(request, RecoveryRequest), "a job of kind recover asks something"
        for task in job.tasks:
            recover_task(
                setup,
                request,
                task,
                self._dataset,
                pixels=self._pixels[1],
                base=self._base,
                store=self._store,
            )
        return JobResult()

    def _learn(self, job: Job) -> JobResult:
        """Learn a task of a baseline."""
        return self._baseline.go_on(job)

    def _go_through(self, job: Job) -> JobResult:
        """Go on with the stream without task ids, to the last decision of ``job``."""
        if self._stream is None:
            self._stream = StreamWork(
                self._setup, self._dataset, pixels=self._pixels, base=self._base, step=self._step
            )
        stream, self._stream = self._stream, None  # after an error the last checkpoint counts, not memory
        result = stream.go_on(job, self._provenance)
        self._stream = stream
        return result

    def _machine(self) -> dict[str, Any]:
        """Return what must be the same for a save to go on to the same bits."""
        return {"engine": self._engine, "device": self._device.type, "torch": torch.__version__}

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


def _task_mask(result: CohortResult, k: int, test_accuracy: float) -> TaskMask:
    return TaskMask(
        task=result.tasks[k],
        bits=pack([layer[k] for layer in result.masks]).tobytes(),
        test_accuracy=test_accuracy,
        train_loss=float(result.train_loss[k]),
        train_seconds=result.train_seconds,
        norm_stats=None if result.statistics is None else result.statistics[k].astype("<f4").tobytes(),
    )
