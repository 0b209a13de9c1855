"""Compiled loops add in the order that is written: no code of numba for another processor changes a bit."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TRAIN = """
import hashlib
from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.training.cohort import train_cohort
from core.training.engine import make_step
from tests.conftest import tiny_spec

spec = tiny_spec()
result = train_cohort(Problem(spec, load_dataset("synthetic", None)), [0, 1], step=make_step(spec.training, "fused"))
print(hashlib.sha256(b"".join(layer.tobytes() for layer in result.masks)).hexdigest())
"""


def digest(**variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_loops_compiled_for_an_older_processor_have_the_same_bits():
    assert digest(NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="+sse2") == digest()
