"""Infer the tasks of test images by searching a bank of masks."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from core.batches.problem import Problem
from core.data.test_rows import InferredRows
from core.inference.device_bank import DeviceBank
from core.inference.evaluation import infer_test_images
from core.inference.search import TaskSearch, search_first
from core.inference.superposition import Bank, MaskBank
from core.masks.bits import packed_num_bytes
from core.masks.packed_sums import Tiles, from_tiles
from core.specs.inference import TEST_BATCH_SIZE
from orchestrator.execution.jobs import InferenceRequest, Job, JobResult, parts_of
from orchestrator.worker.base import WorkerContext
from orchestrator.worker.checkpointer import JobSteps
from storage.bank_file import make_bank, map_bank
from storage.mask_store import first_statistics
from storage.parts import write_part


def _report(steps: JobSteps, before: int, total: int, num_done: int) -> None:
    steps.report(before + num_done, total, "image")


def _num_images(problem: Problem, task: int, num_batches: int | None) -> int:
    """Return how many test images of a task are evaluated."""
    num = len(problem.view(task).test_rows)
    return num if num_batches is None else min(num, num_batches * TEST_BATCH_SIZE)


def _whole_note(request: InferenceRequest, job: Job, rows: Sequence[InferredRows]) -> str | None:
    """Return how many inferences took the long way, which changes their time and not their answer."""
    num_whole, num_all = sum(one.num_whole for one in rows), sum(len(one.batch) for one in rows)
    if not num_whole:
        return None
    return (
        f"{request.label} at k = {request.k}, {job}: {num_whole} of {num_all} inferences "
        f"({100 * num_whole / num_all:.1f} %) were compared with every mask exactly"
    )


def _with_tasks(request: InferenceRequest, rows: InferredRows) -> InferredRows:
    """Return rows that name tasks where the search named masks by their place in the bank."""
    if not request.forgotten:
        return rows
    tasks = np.array(request.searched, dtype=np.int32)
    exact = np.where(rows.exact_task < 0, rows.exact_task, tasks[rows.exact_task])
    return replace(rows, inferred_task=tasks[rows.inferred_task], exact_task=exact)


class Inferred:
    """A ``Handler``: searches among stored masks; caches the last search."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._last_search: tuple[InferenceRequest, TaskSearch] | None = None

    def run(self, job: Job) -> JobResult:
        """Infer the tasks of the test images of ``job``, and commit this part of the table."""
        request, context = job.request, self._context
        assert isinstance(request, InferenceRequest), "a job of kind infer asks something"
        search, problem, steps, rows = self._search(request), context.problem, JobSteps(context, job), []
        sizes = [_num_images(problem, task, request.num_batches) for task in job.tasks]
        for index, task in enumerate(job.tasks):
            before, total = sum(sizes[:index]), sum(sizes)
            steps.report(before, total, "image")
            inferred = infer_test_images(
                search,
                own=request.own_masks(task),
                view=problem.view(task),
                pixels=problem.test,
                num_batches=request.num_batches,
                seed=problem.spec.seed,
                task=task,
                on_images=partial(_report, steps, before, total),
            )
            rows.append((task, _with_tasks(request, inferred)))
        write_part(parts_of(request, context.setup.layout, context.fingerprint), rows)
        return JobResult(note=_whole_note(request, job, [inferred for _, inferred in rows]))

    def _search(self, request: InferenceRequest) -> TaskSearch:
        """Return the search over the request's masks, the cached one if it is the same request."""
        if self._last_search is None or self._last_search[0] != request:
            context, num = self._context, request.num_masks
            tiles = map_bank(self._bank_file(request), packed_num_bytes(context.setup.identity.shapes))
            spec, bank = context.setup.spec, self._bank(tiles)
            model = context.family.search_model(spec, bank.base, first_statistics(context.store, num))
            classes = spec.benchmark.real_classes
            search = search_first(request.inference, bank, num, num_classes=classes, model=model)
            self._last_search = request, search
        return self._last_search[1]

    def _bank_file(self, request: InferenceRequest) -> Path:
        """Return the bank's local file, built here if the run folder is in an object store."""
        layout = self._context.setup.layout
        if isinstance(layout.root, Path):
            return request.bank
        path = layout.banks / request.bank.name
        make_bank(self._context.store, path)
        return path

    def _bank(self, tiles: Tiles) -> Bank:
        setup, base = self._context.setup, self._context.problem.base
        if base[0].device.type == "cpu":
            return MaskBank(tiles, base, setup.num_threads)
        packed = from_tiles(tiles, packed_num_bytes(setup.identity.shapes))
        return DeviceBank(torch.from_numpy(packed).to(base[0].device), base)
