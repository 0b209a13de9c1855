"""The loader module of exported models: images in; task, class and confidence out.

MLflow imports this module by name and calls ``_load_pyfunc`` with the data folder, a run folder with
``run.json`` and mask files. Nothing is unpickled. Imports neither Ray nor MLflow.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.inference.superposition import MaskBank
from core.masks.packed_sums import to_tiles
from orchestrator.predict import Answer, Classification, Predictor, base_tensors, predictor
from orchestrator.runs.run import open_run
from storage.mask_store import MaskStore

TO_INFER = -1  # a task's number where none is given: MLflow's parameters have a value of their type


class ServedModel:
    """Answers like ``supsup infer``, one row per image."""

    def __init__(self, answering: Predictor) -> None:
        self._predictor = answering

    def predict(self, images: NDArray[Any], params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return task, class and confidence (0 to 1) of each image. Raises InferenceError.

        images: [N, H, W], pixels in the units of the data set, as a task sees them. params: ``task``, of all
        images; it is inferred where it is missing or ``TO_INFER``.
        """
        task, pixels = (params or {}).get("task", TO_INFER), np.asarray(images)
        answers: Sequence[Answer | Classification] = (
            self._predictor.infer(pixels) if task == TO_INFER else self._predictor.classify(pixels, task)
        )
        return [
            {"task": answer.task, "class": answer.label, "confidence": answer.confidence}
            for answer in answers
        ]


def _load_pyfunc(folder: str) -> ServedModel:
    """Load a model. Raises RunFolderError, DamagedFileError or ForeignFileError."""
    torch.set_num_threads(1)  # the loops over masks have threads of their own
    run, _ = open_run(Path(folder))
    bank = MaskBank(_tiles(run.store), base_tensors(run), len(os.sched_getaffinity(0)))
    return ServedModel(predictor(run, bank, None, {}))


def _tiles(store: MaskStore) -> NDArray[np.uint8]:
    files = store.locate()
    return to_tiles(np.stack([*store.iterate_bits(files.leading, files)]))
