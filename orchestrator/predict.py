"""Infer the task and class of images with the masks of a run folder, in three lines.

from orchestrator.predict import load_predictor

predictor = load_predictor("runs/permuted_10-b0f0eaec")
answers = predictor.infer(images)        # uint8 [N, 28, 28], as a task sees them
given = predictor.classify(images, 3)    # under the mask of task 3, without inference
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.batches.inputs import pixel_scale
from core.data.datasets import normalisation
from core.errors import InferenceError, plural
from core.families import family_of
from core.inference.search import Ranking, TaskSearch, infer_each, infer_tasks, search_first
from core.inference.superposition import Bank, MaskBank
from core.masks.bits import packed_num_bytes
from core.networks.base import draw_weights
from core.networks.probe import check_inference
from core.specs.inference import InferenceSpec
from core.specs.run import RunSpec
from orchestrator.config.load import change_settings
from orchestrator.images import flat_images
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.run import Run, open_run, require_run_code
from storage.bank_file import ensure_bank, map_bank
from storage.locations import Location, to_location
from storage.mask_store import first_statistics


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate task. label: the class under its mask. confidence: softmax of that class, 0 to 1.

    value: ranks the tasks, lower is better (``core.inference.search.Ranking``).
    """

    task: int
    label: int
    confidence: float
    value: float


@dataclass(frozen=True, kw_only=True)
class Classification:
    """The class of an image whose task was given. label, confidence: as in ``Candidate``."""

    task: int
    label: int
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer for one image. best: up to five candidates, best first."""

    best: tuple[Candidate, ...]

    @property
    def task(self) -> int:
        """The inferred task."""
        return self.best[0].task

    @property
    def label(self) -> int:
        """The class under the mask of the inferred task."""
        return self.best[0].label

    @property
    def confidence(self) -> float:
        """The softmax output of that class, 0 to 1; high only if task and class are clear."""
        return self.best[0].confidence


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Infers task and class image by image; made by ``load_predictor`` or ``predictor``.

    image_shape: [H, W] or [3, H, W]. scale: the largest pixel value of the data set, 255 or, for the
    digits, 16. The network's input is pixel * gain + offset; floats, or float32 [D] for colour images.
    tasks: of the masks searched, int64, ascending; None where mask i is that of task i, so that none was forgotten.
    """

    search: TaskSearch
    image_shape: tuple[int, ...]
    scale: float
    gain: float | torch.Tensor
    offset: float | torch.Tensor
    tasks: NDArray[np.int64] | None = None

    def infer(self, images: NDArray[Any]) -> list[Answer]:
        """Return an answer per image. Raises InferenceError on a wrong size or invalid pixels.

        images: [N, H, W], [H, W] or [N, D], in colour [N, 3, H, W] or [3, H, W]; pixels 0 .. ``scale`` of
        any number type, as a task sees them (permuted, rotated).
        """
        x_ND = self._inputs(images)
        rankings = self._rankings(x_ND)
        masks_NB = np.concatenate([ranking.tasks for ranking in rankings])
        values_NB = np.concatenate([ranking.values for ranking in rankings])
        num_best = masks_NB.shape[1]
        candidates = [
            Candidate(task=task, label=label, confidence=confidence, value=value)
            for task, label, confidence, value in zip(
                (masks_NB if self.tasks is None else self.tasks[masks_NB]).ravel().tolist(),
                *self._classes(x_ND.repeat_interleave(num_best, dim=0), masks_NB.ravel()),
                values_NB.ravel().tolist(),
                strict=True,
            )
        ]
        starts = range(0, len(candidates), num_best)
        return [Answer(best=tuple(candidates[start : start + num_best])) for start in starts]

    def classify(
        self, images: NDArray[Any], tasks: int | Sequence[int] | NDArray[np.int64]
    ) -> list[Classification]:
        """Return the class of each image under the mask of its task, which is given: nothing is inferred.

        images: as in ``infer``. tasks: of all images, or one per image. Raises InferenceError.
        """
        x_ND = self._inputs(images)
        tasks_N = self.given(tasks, len(x_ND))
        found = zip(tasks_N.tolist(), *self._classes(x_ND, self._places(tasks_N)), strict=True)
        return [Classification(task=t, label=label, confidence=p) for t, label, p in found]

    def classes(
        self, images_ND: NDArray[np.float32], tasks_N: NDArray[np.int64]
    ) -> tuple[list[int], list[float]]:
        """Return class and confidence of each image, as ``classify`` does, of what is known to be right.

        images_ND: from ``orchestrator.images``, with pixels 0 .. ``scale``. tasks_N: from ``given``.
        """
        return self._classes(self._normalised(images_ND), self._places(tasks_N))

    def _places(self, tasks_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the tasks' masks in the bank, int64 [N]."""
        return tasks_N if self.tasks is None else np.searchsorted(self.tasks, tasks_N)

    def _classes(self, x_ND: torch.Tensor, masks_N: NDArray[np.int64]) -> tuple[list[int], list[float]]:
        """Return the class of each image under a mask, by its place in the bank, and its softmax output."""
        p_NO = torch.softmax(self.search.model.own_logits(x_ND, self.search.bank, masks_N), dim=1)
        best = p_NO.max(dim=1)
        return best.indices.tolist(), best.values.tolist()

    def _inputs(self, images: NDArray[Any]) -> torch.Tensor:
        """Return images as inputs of the network, float32 [N, D]. Raises InferenceError."""
        flat_ND = flat_images(images, self.image_shape, "images")
        if flat_ND.min() < 0 or flat_ND.max() > self.scale:
            raise InferenceError(
                f"images: found pixels from {flat_ND.min():g} to {flat_ND.max():g}, this data set has 0 to "
                f"{self.scale:g}; `orchestrator.images.read_images` reads a file in its units"
            )
        return self._normalised(flat_ND)

    def _normalised(self, flat_ND: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(flat_ND) * self.gain + self.offset

    def given(self, tasks: int | Sequence[int] | NDArray[np.int64], num_images: int) -> NDArray[np.int64]:
        """Return the task of each image, int64 [N]. Raises InferenceError."""
        given, known = np.asarray(tasks), self.search.start.tasks if self.tasks is None else self.tasks
        if given.dtype.kind not in "ui" or given.shape not in ((), (num_images,)):
            raise InferenceError(
                f"task: found {tasks!r}, expected a whole number, or one per image ({num_images})"
            )
        is_wrong = (given < 0) | (given >= len(known)) if self.tasks is None else ~np.isin(given, known)
        wrong = given[is_wrong]
        if wrong.size:
            raise InferenceError(
                f"task: found {wrong.flat[0]}, expected a number from {known[0]} to {known[-1]}: there are masks of "
                f"{plural(len(known), 'task')}"
            )
        return given.astype(np.int64) if given.ndim else np.full(num_images, given, dtype=np.int64)

    def _rankings(self, x_ND: torch.Tensor) -> list[Ranking]:
        """Return rankings whose rows are the images in order, none of which depends on another."""
        if self.search.spec.algorithm == "exhaustive":  # one product serves all images of a call
            return [infer_tasks(self.search, x_D.reshape(1, 1, -1)) for x_D in x_ND]
        return [infer_each(self.search, x_ND.unsqueeze(1))]


def load_predictor(root: str | Location, k: int | None = None, **inference: str) -> Predictor:
    """Return the predictor over the first k tasks of a run folder, by default all.

    inference: ``algorithm`` and ``objective``, by default the run's. Raises RunFolderError, ConfigError
    or InferenceError.
    """
    run, _ = open_run(to_location(root))
    return local_predictor(run, k, inference)


def local_predictor(run: Run, k: int | None, inference: Mapping[str, str]) -> Predictor:
    """Return the predictor of an open run, with the masks mapped from the local bank file."""
    check_network(run)
    num_threads = len(os.sched_getaffinity(0))
    tiles = map_bank(ensure_bank(run.store), packed_num_bytes(run.identity.shapes))
    return predictor(run, MaskBank(tiles, base_tensors(run), num_threads), k, inference)


@contextmanager
def sharded_predictor(
    run: Run, num_shards: int, k: int | None, inference: Mapping[str, str]
) -> Iterator[Predictor]:
    """Yield the same predictor over ``num_shards`` Ray actors, which end with the context."""
    from orchestrator.cluster.bank import ray_bank  # imports ray

    check_network(run)
    with ray_bank(run, base_tensors(run), num_shards, run.config.executor.address) as bank:
        yield predictor(run, bank, k, inference)


def predictor(run: Run, bank: Bank, k: int | None, inference: Mapping[str, str]) -> Predictor:
    """Return the predictor of a run over a bank of its masks."""
    spec, files = _inference(run, inference), run.store.locate()
    num_masks = bank.num_tasks if k is None else len(files.among(k))
    statistics = first_statistics(run.store, min(num_masks, bank.num_tasks))
    found = spec_predictor(run.config.run_spec(), bank, num_masks, spec, statistics)
    return replace(found, tasks=np.array(files.leading[:num_masks])) if files.forgotten else found


def spec_predictor(
    spec: RunSpec,
    bank: Bank,
    num_tasks: int,
    inference: InferenceSpec,
    statistics: NDArray[np.float32] | None = None,
) -> Predictor:
    """Return the predictor over the first tasks of a bank. statistics: of its masks, float32 [K, S], if any.

    Raises ConfigError or InferenceError.
    """
    benchmark = spec.benchmark
    check_inference(spec.network, benchmark.channels_first, inference)
    scale, mean, std = normalisation(benchmark)
    gain, offset = pixel_scale(scale, mean, std, benchmark.image_shape)
    model = family_of(spec.network).search_model(spec, bank.base, statistics)
    search = search_first(inference, bank, num_tasks, num_classes=benchmark.real_classes, model=model)
    return Predictor(search=search, image_shape=benchmark.image_shape, scale=scale, gain=gain, offset=offset)


def base_tensors(run: Run) -> tuple[torch.Tensor, ...]:
    """Return the fixed weights of a run, float32 [O, I, ...] per layer."""
    weights = draw_weights([layer.shape for layer in run.layers], seed=run.config.seed)
    return tuple(torch.from_numpy(weight) for weight in weights)


def check_network(run: Run) -> None:
    """Raise InferenceError unless single images can be answered; ConfigError or RunFolderError if code may not run."""
    require_run_code(run)
    if run.config.network.traits.in_memory:
        raise InferenceError(
            f"{run.name}: found network {run.config.network.kind!r} with masks on its outputs, expected masks "
            "on weights; such masks are recovered from many images: "
            f"`{supsup_command('evaluate', run.layout.root, config=run.config)}`"
        )


def _inference(run: Run, words: Mapping[str, str]) -> InferenceSpec:
    """Return the run's inference spec with ``words`` changed, one image at a time."""
    settings = [f"evaluation.inference.{key}={value}" for key, value in words.items()]
    spec = change_settings(run.config, settings, ["evaluation"]).evaluation.inference
    assert spec is not None, "_check_network refuses masks on outputs"
    classes, outputs = run.config.benchmark.real_classes, run.config.network.outputs
    if outputs == classes and "objective" not in words:
        spec = replace(spec, objective="H")  # G needs superfluous output neurons
    return replace(spec, images=1)
