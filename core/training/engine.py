"""Engines: how a training step runs. ``eager`` is the reference, two others are faster.

- ``fused`` is for CPUs (``fused_step``): the same bits as eager, a task at a time.
- ``compiled`` is ``torch.compile`` of the reference, for GPUs: one graph, the whole cohort at a
  time. Its arithmetic rounds differently, so scores that end near zero fall on either side. The
  tolerance: no bit in 1,000 on a small network after 60 steps (tested); after the paper's 1000
  steps on MNIST 3 to 4 bits in 1,000 differed (LeNet 300-100, 4 tasks) and accuracy moved by at
  most 0.13 points, up and down.
"""

import os
from pathlib import Path

import torch

from core.masks.packed_sums import has_numba
from core.specs.network import MaskSpec
from core.specs.training import Engine, TrainingSpec
from core.training.cohort import Step, eager_step
from core.training.optimizers import Optimizer
from core.training.selection import THRESHOLD


def make_step(training: TrainingSpec, engine: Engine, rule: MaskSpec = THRESHOLD) -> Step:
    """Return the training step of ``engine``; compilation happens at its first call.

    Raises ImportError when ``fused`` cannot run here: it needs numba, and torch's matrix product.
    """
    if engine == "fused":
        if not has_numba():
            raise ImportError("numba is not installed, or turned off")
        from core.training.fused import FusedStep

        return Step(FusedStep(training.optimizer), tasks_at_once=1)
    step = eager_step(Optimizer(training.optimizer), rule)
    if engine == "eager":
        return Step(step)
    # Not in /tmp, which is emptied: workers and later runs then compile nothing.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path.home() / ".cache/supsup/inductor"))
    return Step(torch.compile(step, dynamic=False, fullgraph=True))


def is_missing(error: Exception) -> bool:
    """Tell whether ``error`` says that an engine cannot run here: no numba, no working compiler."""
    # By name: importing torch's compiler to ask costs a second.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ImportError", "TorchDynamoException"})
