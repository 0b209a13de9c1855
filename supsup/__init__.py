"""SupSup from Python: run sweeps, open their folders, and train or search masks without a folder.

    import supsup

    run = supsup.run("sweeps/digits_10.yaml", num_tasks=5)   # the same call resumes
    run.accuracy.to_pandas()                                 # or supsup.open("runs/...") later
    run.infer(images)

What is behind these doors is in ``core``, ``storage`` and ``orchestrator``. Importing this package loads nothing
heavy: each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from supsup.first import claim_names

claim_names()

from core.public import lazy_names  # noqa: E402  # ours

__all__ = [
    "AccuracyMatrix",
    "Answer",
    "Classification",
    "Comparison",
    "InputError",
    "Problem",
    "Run",
    "SupSupError",
    "SweepConfig",
    "TrainedMasks",
    "compare",
    "fill_bank",
    "load_sweep",
    "make_problem",
    "one_shot",
    "open",
    "read_images",
    "run",
    "search",
    "task_images",
    "train_masks",
]

if TYPE_CHECKING:
    from core.batches.problem import Problem
    from core.data.task_images import task_images
    from core.errors import InputError, SupSupError
    from core.train import TrainedMasks, train_masks
    from orchestrator.compare.comparison import Comparison
    from orchestrator.config.sweep import SweepConfig
    from orchestrator.images import read_images
    from orchestrator.predict import Answer, Classification
    from orchestrator.runs.accuracy_matrix import AccuracyMatrix
    from supsup.library import fill_bank, make_problem, one_shot
    from supsup.opened import Run
    from supsup.sweeps import load_sweep
    from supsup.verbs import compare, open, run, search  # noqa: A004
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)
