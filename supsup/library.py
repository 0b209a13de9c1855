"""Masks without a run folder: images and a base network, masks trained in this process, a bank, one-shot inference."""

import os
from typing import Any

from numpy.typing import NDArray

from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.inference.superposition import MaskBank
from core.masks.packed_sums import to_tiles
from core.specs.inference import InferenceSpec, Objective
from core.train import TrainedMasks
from orchestrator.config.own_data import data_folder
from orchestrator.predict import Answer, spec_predictor
from supsup.sweeps import load_sweep
from supsup.verbs import Sweep


def make_problem(sweep: Sweep, **settings: Any) -> Problem:
    """Return the base network, the images and the tasks of a sweep (see ``load_sweep``). Raises InputError."""
    config = load_sweep(sweep, **settings)
    return Problem(config.run_spec(), load_dataset(config.benchmark, data_folder(config.data_dir)))


def fill_bank(masks: TrainedMasks) -> MaskBank:
    """Return the masks laid out for task inference: task k of the bank is row k of ``masks``."""
    return MaskBank(to_tiles(masks.packed), masks.problem.base, len(os.sched_getaffinity(0)))


def one_shot(
    masks: TrainedMasks, bank: MaskBank, images: NDArray[Any], objective: Objective = "G"
) -> list[Answer]:
    """Return the task and the class of each image by one gradient step on the superposition of the bank's masks.

    images: as a task sees them (``task_images``). objective: ``G`` or ``H`` (paper, section 3). Raises InferenceError.
    """
    spec = InferenceSpec(algorithm="one_shot", objective=objective, images=1)
    return spec_predictor(masks.problem.spec, bank, bank.num_tasks, spec, masks.statistics).infer(images)
