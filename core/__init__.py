"""SupSup as a library: base networks, supermasks, benchmarks and cohort training.

Pure functions and frozen dataclasses over numpy and torch, independent of file formats,
clusters and trackers. Equation and section numbers refer to Wortsman et al.,
"Supermasks in Superposition", NeurIPS 2020 (arXiv 2006.14769).
"""

from typing import TYPE_CHECKING

from core.public import lazy_names

__all__ = [
    "AllocationSpec",
    "BaselineSpec",
    "BenchmarkSpec",
    "CohortResult",
    "Dataset",
    "HopfieldSpec",
    "InferenceSpec",
    "InputError",
    "Layer",
    "MaskBank",
    "MaskSpec",
    "NetworkSpec",
    "OptimizerSpec",
    "Pixels",
    "Problem",
    "Ranking",
    "RunSpec",
    "ScheduleSpec",
    "StreamSpec",
    "SupSupError",
    "TaskSearch",
    "TaskView",
    "TrainingSpec",
    "base_weights",
    "infer_tasks",
    "layers",
    "load_dataset",
    "make_step",
    "network_digest",
    "pack",
    "search_first",
    "task_view",
    "to_device",
    "to_tiles",
    "train_cohort",
    "unpack",
]

if TYPE_CHECKING:
    from core.batches.inputs import Pixels, to_device
    from core.batches.problem import Problem
    from core.data.benchmarks import TaskView, task_view
    from core.data.datasets import Dataset, load_dataset
    from core.errors import InputError, SupSupError
    from core.inference.search import Ranking, TaskSearch, infer_tasks, search_first
    from core.inference.superposition import MaskBank
    from core.masks.bits import pack, unpack
    from core.masks.packed_sums import to_tiles
    from core.networks.base import Layer, base_weights, layers, network_digest
    from core.specs.benchmark import BenchmarkSpec
    from core.specs.inference import HopfieldSpec, InferenceSpec
    from core.specs.network import MaskSpec, NetworkSpec
    from core.specs.run import BaselineSpec, RunSpec
    from core.specs.training import AllocationSpec, OptimizerSpec, ScheduleSpec, StreamSpec, TrainingSpec
    from core.training.chunks import CohortResult
    from core.training.cohort import train_cohort
    from core.training.engine import make_step
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)
