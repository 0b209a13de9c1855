"""The memory formula is an upper bound, and not a wild one."""

import json
import os
import subprocess
import sys

import pytest

from core.families import family_of
from core.networks.base import layers
from core.specs.network import NetworkSpec
from core.specs.training import TrainingSpec
from tests.conftest import tiny_spec

MEASURE = """
import json, torch
from core.data.datasets import Dataset
from core.training.engine import make_step
from core.batches.problem import Problem
from core.specs.run import BenchmarkSpec, NetworkSpec, RunSpec, TrainingSpec
from core.training.cohort import train_cohort
import numpy as np
torch.set_num_threads(1)
rng = np.random.default_rng(0)
images = rng.integers(0, 255, (2000, 28, 28), dtype=np.uint8)
labels = rng.integers(0, 10, 2000)
data = Dataset(name="mnist", num_classes=10, train_images=images, train_labels=labels,
               test_images=images, test_labels=labels, scale=255.0, mean=0.1, std=0.3)
def train(num_tasks):
    spec = RunSpec(seed=0, benchmark=BenchmarkSpec(kind="permuted", dataset="mnist", num_tasks=64),
                   network=NetworkSpec(kind="lenet_300_100", outputs=500), training=TrainingSpec(steps=20))
    train_cohort(Problem(spec, data), range(num_tasks), step=make_step(spec.training, "eager"))
def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024
train(1)
open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
before = status("VmRSS")
train(24)
print(json.dumps(status("VmHWM") - before))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_of_a_real_cohort_is_within_the_formula():
    """24 LeNet tasks in a fresh process; the first, small cohort pays for the libraries."""
    # Freed blocks go back at once: what glibc keeps of them differs from run to run.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    measured = json.loads(done.stdout)
    spec = tiny_spec(network=NetworkSpec(kind="lenet_300_100", outputs=500), training=TrainingSpec(steps=20))
    formula = family_of(spec.network).peak_bytes(spec, layers(spec.network, 784), 24)
    assert 0.5 * formula < measured < 1.1 * formula
