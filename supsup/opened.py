"""A run from Python: its tables, masks and networks, and answers with them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import nn

from core.data.datasets import Dataset
from core.data.task_images import task_images
from core.errors import RunFolderError, plural
from core.masks.bits import unpack
from core.networks.masked import masked_module
from orchestrator.config.load import config_values
from orchestrator.config.own_data import data_folder
from orchestrator.evaluate import evaluate_run
from orchestrator.predict import Answer, Classification, Predictor, base_tensors, local_predictor
from orchestrator.report.build import make_report
from orchestrator.runs import dataset as datasets
from orchestrator.runs import run as runs
from orchestrator.runs.accuracy_matrix import AccuracyMatrix, accuracy_matrix
from orchestrator.runs.history import read_failures
from orchestrator.runs.results import read_results
from orchestrator.status import RunStatus, run_status
from storage.locations import Location
from storage.mask_store import TaskMask
from storage.run_file import read_run
from supsup.page import run_page
from supsup.progress import make_progress


class Run:
    """A run in its folder, which every call reads anew; made by ``supsup.run`` or ``supsup.open``."""

    def __init__(self, located: runs.Run) -> None:
        self._run = located

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self._run.name

    @property
    def folder(self) -> Location:
        """Where it is."""
        return self._run.layout.root

    @property
    def sweep(self) -> dict[str, Any]:
        """The values of its sweep file, with all defaults."""
        return config_values(self._run.config)

    @property
    def status(self) -> RunStatus:
        """How far it is."""
        return run_status(self.folder)

    @property
    def failures(self) -> dict[int, str]:
        """The errors of the tasks that failed in the last session."""
        return {row["task"]: row["error"] for row in read_failures(self._run)}

    @property
    def tasks(self) -> pa.Table:
        """A row per trained task: accuracy (fraction, task given), loss (nats), density (fraction kept), seconds."""
        return self._run.store.facts().info_table()

    @property
    def accuracy(self) -> pa.Table:
        """A row per evaluation: scenario, method of inference, k, test batches per task, and mean metrics (fractions)."""
        rows = [
            {"scenario": x.scenario, "method": x.method, "k": x.k, "num_batches": x.num_batches, **x.shares}
            for x in read_results(self._run).ascending()
        ]
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: [row.get(name) for row in rows] for name in names})

    def accuracy_matrix(self, scenario: str = "GG") -> AccuracyMatrix:
        """Return the accuracy of each task after each k. Raises RunFolderError if the scenario was not evaluated."""
        return accuracy_matrix(self._run, scenario)

    def mask(self, task: int) -> dict[str, NDArray[np.bool_]]:
        """Return a task's mask by layer, bool [O, I, ...], True for weights that are kept. Raises RunFolderError."""
        identity = self._run.identity
        return dict(zip(identity.names, unpack(self._stored(task).bits, identity.shapes), strict=True))

    def network(self, task: int) -> nn.Module:
        """Return the network of a task, a plain module in evaluation mode: float32 [B, C, H, W] to logits [B, O].

        Its weights are base * mask; inputs are normalised as in training (``images``). Raises RunFolderError.
        """
        runs.require_run_code(self._run)
        stored, spec = self._stored(task), self._run.config.run_spec()
        statistics = None if stored.norm_stats is None else np.frombuffer(stored.norm_stats, "<f4")
        masks = unpack(stored.bits, self._run.identity.shapes)
        return masked_module(
            spec.network, spec.benchmark.channels_first, base_tensors(self._run), masks, statistics
        )

    def images(self, task: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the test images as a task sees them (``task_images``), for ``infer`` and ``classify``, and their labels."""
        return task_images(self._run.config.benchmark, self._dataset, task, seed=self._run.config.seed)

    def infer(self, images: NDArray[Any], **inference: str) -> list[Answer]:
        """Return the task and the class of each image, by all masks. Raises InferenceError.

        images: uint8 [N, H, W] or [N, 3, H, W], as a task sees them. inference: ``algorithm``, ``objective``.
        """
        return self._predictor(inference).infer(images)

    def classify(self, images: NDArray[Any], task: int | Sequence[int]) -> list[Classification]:
        """Return the class of each image under the mask of its task, which is given. Raises InferenceError."""
        return self._predictor({}).classify(images, task)

    def evaluate(self, *settings: str, quiet: bool = False) -> "Run":
        """Evaluate the stored masks under other settings, such as ``evaluation.inference.objective=H``.

        The results appear in ``accuracy``. Raises InputError before anything is written.
        """
        evaluate_run(self.folder, settings, data_folder(None), make_progress(quiet=quiet))
        return self

    def report(self) -> Path | Location:
        """Draw the figures and the page that changed, and return the page."""
        make_report(self.folder)
        return self._run.layout.report / "report.html"

    def _stored(self, task: int) -> TaskMask:
        files = self._run.store.locate()
        if task not in files:
            raise RunFolderError(f"{self.name}: task {task} has no mask; trained: {len(files):,} tasks")
        (stored,) = self._run.store.iterate([task], files)
        return stored

    def _predictor(self, inference: Mapping[str, str]) -> Predictor:
        digest = self._run.store.facts().digests
        key = (digest, tuple(sorted(inference.items())))
        if key not in self._predictors:
            self._predictors.clear()
            self._predictors[key] = local_predictor(self._run, None, inference)
        return self._predictors[key]

    @cached_property
    def _predictors(self) -> dict[Any, Predictor]:
        return {}

    @cached_property
    def _dataset(self) -> Dataset:
        folder = data_folder(self._run.config.data_dir)
        return datasets.run_dataset(self._run, read_run(self._run.layout), folder)

    def __repr__(self) -> str:
        """Return how far it is, in a line."""
        status = self.status
        mean = "" if status.mean_accuracy is None else f", mean accuracy {100 * status.mean_accuracy:.2f} %"
        done = f"{status.progress.num_done:,} of {plural(status.progress.num_total, 'task')}"
        return f"<supsup.Run {self.name}: {done}, {status.state}{mean}>"

    def _repr_html_(self) -> str:
        """Return the results and the curve, for notebooks."""
        return run_page(repr(self), read_results(self._run), self._run.layout)
