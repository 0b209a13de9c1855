"""Choose the fastest engine that can run where training happens, without importing torch."""

import os
import shutil
from importlib.util import find_spec

from core.masks.packed_sums import has_numba
from core.specs.training import Engine, TrainingSpec

# Operations of a whole run above which compiling pays off: half a minute on a GPU.
COMPILE_FLOP = 5e12


def choose_engine(
    training: TrainingSpec, flop: float, *, on_gpu: bool, can_compile: bool | None = None
) -> Engine:
    """Return the engine for a perceptron's run of ``flop`` operations in total.

    can_compile: whether the workers' machines have what ``torch.compile`` needs; None: as this one.
    """
    pays = flop >= COMPILE_FLOP and (on_gpu or not can_fuse(training))
    if pays and (has_compiler(on_gpu=on_gpu) if can_compile is None else can_compile):
        return "triton" if on_gpu else "compiled"
    return without_compiler(training, on_gpu=on_gpu)


def next_engine(engine: Engine, training: TrainingSpec, *, on_gpu: bool) -> Engine:
    """Return what to train with where ``engine`` cannot run."""
    if engine == "triton" and on_gpu and has_compiler(on_gpu=True):
        return "compiled"
    return "eager" if engine == "fused" else without_compiler(training, on_gpu=on_gpu)


def without_compiler(training: TrainingSpec, *, on_gpu: bool) -> Engine:
    """Return the fastest engine that needs no compiler."""
    return "fused" if can_fuse(training) and not on_gpu else "eager"


def can_fuse(training: TrainingSpec) -> bool:
    """Return whether the ``fused`` engine can run on a CPU here: it needs numba, and float32 throughout."""
    return training.is_float32 and has_numba()


def has_compiler(*, on_gpu: bool) -> bool:
    """Return whether a C++ compiler is installed and, for a GPU, Triton too."""
    return has_cpp() and (not on_gpu or has_triton())


def has_cpp() -> bool:
    """Return whether a C++ compiler is installed."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def has_triton() -> bool:
    """Return whether Triton is installed."""
    return find_spec("triton") is not None
