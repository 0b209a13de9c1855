"""A worker's part of task inference: one bank of masks, searched for one question after another."""

from pathlib import Path

import torch

from core.batches.inputs import Pixels
from core.data.benchmarks import task_view
from core.data.datasets import Dataset
from core.inference.device_bank import DeviceBank
from core.inference.evaluation import infer_test_images
from core.inference.search import TaskSearch, search_first
from core.inference.superposition import Bank, MaskBank
from core.masks.bits import packed_num_bytes
from core.masks.packed_sums import Tiles, from_tiles
from orchestrator.execution.jobs import InferenceRequest, Job, JobResult, WorkerSetup
from orchestrator.worker.modules import ModuleWork
from storage.bank_file import make_bank, map_bank
from storage.mask_store import MaskStore
from storage.parts import write_part


class InferenceWork:
    """Searches among stored masks; keeps the last search for the next job. pixels: of the test images."""

    def __init__(
        self,
        setup: WorkerSetup,
        dataset: Dataset,
        *,
        base: tuple[torch.Tensor, ...],
        pixels: Pixels,
        store: MaskStore,
        modules: ModuleWork | None,
    ) -> None:
        self._setup, self._dataset, self._base, self._pixels = setup, dataset, base, pixels
        self._store, self._modules = store, modules
        self._last_search: tuple[InferenceRequest, TaskSearch] | None = None

    def infer(self, job: Job) -> JobResult:
        """Infer the tasks of the test images that ``job`` asks for, and commit the part."""
        request = job.request
        assert isinstance(request, InferenceRequest), "a job of kind infer asks something"
        search, spec = self._search(request), self._setup.spec
        rows = [
            (
                task,
                infer_test_images(
                    search,
                    own=request.own_masks(task),
                    view=task_view(spec.benchmark, self._dataset, task, seed=spec.seed),
                    pixels=self._pixels,
                    num_batches=request.num_batches,
                ),
            )
            for task in job.tasks
        ]
        write_part(self._setup.layout, self._setup.identity.fingerprint, request.key, rows)
        return JobResult()

    def _search(self, request: InferenceRequest) -> TaskSearch:
        """Build what searches among the first k tasks; the last one is kept for the next job."""
        if self._last_search is None or self._last_search[0] != request:
            tiles = map_bank(self._bank_file(request), packed_num_bytes(self._setup.identity.shapes))
            bank = self._bank(tiles)
            spec, num = self._setup.spec, request.num_masks
            model = None if self._modules is None else self._modules.model(self._store, num)
            search = search_first(
                request.inference, bank, num, num_classes=spec.benchmark.real_classes, model=model
            )
            self._last_search = request, search
        return self._last_search[1]

    def _bank_file(self, request: InferenceRequest) -> Path:
        """Return the bank on this machine; made here where runs are in an object store."""
        layout = self._setup.layout
        if isinstance(layout.root, Path):
            return request.bank
        path = layout.banks / request.bank.name
        make_bank(self._store, path)
        return path

    def _bank(self, tiles: Tiles) -> Bank:
        base = self._base
        if base[0].device.type == "cpu":
            return MaskBank(tiles, base, self._setup.num_threads)
        packed = from_tiles(tiles, packed_num_bytes(self._setup.identity.shapes))
        return DeviceBank(torch.from_numpy(packed).to(base[0].device), base)
