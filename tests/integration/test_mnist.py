"""Real MNIST, the paper's recipe, two tasks of ten: the accuracy, and that masks alone give it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.data.datasets import load_dataset
from orchestrator.config.load import load_sweep
from orchestrator.export import export_run
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from tests.integration.test_run import READ_WITHOUT_US
from tests.orchestrator.fakes import Recorder

ROOT = Path(__file__).parents[2]
SWEEP = ROOT / "sweeps" / "permuted_10.yaml"
RECOMPUTE = ROOT / "perf" / "recompute.py"


@pytest.mark.data
@pytest.mark.slow
def test_two_tasks_reach_the_expected_accuracy_and_their_masks_alone_reproduce_it(mnist_folder, tmp_path):
    settings = [
        "benchmark.num_tasks=2",
        "executor.kind=inline",
        "tracking.uri=null",
        f"storage.uri={tmp_path}",
        "evaluation.inference.deciding=drawn",
    ]
    config = load_sweep(SWEEP, settings)
    result = run_sweep(config, mnist_folder, Recorder())
    assert min(one.test_accuracy for one in result.infos) >= 0.92
    assert max(one.test_accuracy for one in result.infos) <= 0.945
    assert all(0.495 < one.density < 0.52 for one in result.infos)
    measured = result.results.to_json()
    given, inferred = measured["GG"]["2"], measured["GNu"]["one_shot-G-1-drawn"]["2"]
    assert inferred["task_inference_accuracy"] == 1.0
    assert inferred["accuracy"] == given["accuracy"]
    run, dataset = locate_run(config), load_dataset("mnist", mnist_folder)
    np.savez(tmp_path / "test.npz", images=dataset.test_images, labels=dataset.test_labels)
    export_run(run, tmp_path / "out", range(2))
    arguments = [str(tmp_path / "out"), str(tmp_path / "test.npz"), str(run.layout.masks)]
    command = [sys.executable, "-I", "-c", READ_WITHOUT_US, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    recompute(run.layout.root, mnist_folder / "mnist")


def recompute(run, mnist):
    """Check that the script that uses no code of ours gets every stored result."""
    command = [sys.executable, "-I", str(RECOMPUTE), str(run), str(mnist)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    given, equal, table, inferences, *same = done.stdout.splitlines()
    assert given.startswith("GG, 2 tasks: ")
    assert equal == "  equal: 2 tasks; the others differ by at most 0 images"
    assert table.startswith("GNu-one_shot-G-1-drawn-2.parquet, 2 tasks: ")
    assert inferences == "  inferences: 158"
    assert same == [f"  equal {name}: 158" for name in ("deciding_image", "inferred_task", "num_correct")]
