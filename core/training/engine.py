"""Engines: how a training step runs. ``eager`` is the reference, the others are faster.

- ``fused`` is for CPUs (``core.training.fused``): the same bits as eager, one task at a time.
- ``triton`` is for GPUs (``core.training.triton_step``): a few kernels that read masks as bits and store no
  gradient. In Triton's interpreter no bit differs from the reference after one step (tested); no GPU has run
  it yet, so its first step in a process is compared with the reference.
- ``compiled`` is ``torch.compile`` of the reference, for GPUs: one graph for the whole cohort. Its
  arithmetic rounds differently, so scores that end near zero may fall on either side. The
  tolerance is no bit in 1,000 on a small network after 60 steps (tested); after the paper's 1000
  steps on MNIST, 3 to 4 bits in 1,000 differed (LeNet 300-100, 4 tasks) and accuracy moved by at
  most 0.13 points, up or down.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import torch

from core.masks.packed_sums import has_numba
from core.specs.network import MaskSpec
from core.specs.training import Engine, TrainingSpec
from core.training.cohort import Step, eager_step
from core.training.optimizers import Optimizer
from core.training.selection import THRESHOLD


def make_step(training: TrainingSpec, engine: Engine, rule: MaskSpec = THRESHOLD) -> Step:
    """Return the training step of ``engine``, which compiles at its first call.

    Raises ImportError if an engine cannot run here: ``fused`` needs numba, and torch's matrix product;
    ``triton`` needs Triton, and at its first call a GPU.
    """
    if engine == "fused":
        if not has_numba():
            raise ImportError("numba is not installed, or turned off")
        from core.training.fused import FusedStep

        return Step(FusedStep(training.optimizer), tasks_at_once=1)
    if engine == "triton":
        return _triton_step(training, rule)
    step = eager_step(Optimizer(training.optimizer), rule)
    if engine == "eager":
        return Step(step)
    # Not in /tmp, which gets emptied: workers and later runs then reuse the compiled code.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path.home() / ".cache/supsup/inductor"))
    return Step(torch.compile(step, dynamic=False, fullgraph=True), has_one_shape=True)


def _triton_step(training: TrainingSpec, rule: MaskSpec) -> Step:
    if find_spec("triton") is None:
        raise ImportError(
            "engine 'triton': the package triton is not installed here; builds of torch for GPUs bring it. Take "
            "executor.engine 'auto', or: pip install triton"
        )
    assert rule.rule == "threshold", "a sweep with another rule is refused"
    from core.training.triton_step import TritonStep, packed_weights

    return Step(TritonStep(training.optimizer, training.matmul), weights=packed_weights)


def is_missing(error: Exception) -> bool:
    """Return whether ``error`` means that an engine cannot run here: no numba, no working compiler.

    Or one that has compiled for so many shapes that it refuses the next.
    """
    # Compared by name, because importing torch's compiler takes a second.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ImportError", "TorchDynamoException", "FailOnRecompileLimitHit"})
