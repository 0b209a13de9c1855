"""The mask store compared with plain files of the same bytes, and a worker's peak memory."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from cases import Row, base_on, network_layers, paper_spec

from core.families import family_of
from core.networks.base import network_digest
from storage.layout import RunLayout
from storage.mask_store import MaskStore, StoreIdentity, TaskMask

NUM_TASKS, COHORT = 2500, 8
MEMORY = """
import json, resource, torch
from cases import mnist, paper_spec
from core.training.engine import make_step
from core.batches.problem import Problem
from core.training.cohort import train_cohort
torch.set_num_threads(1)
spec, (dataset, _) = paper_spec(steps=20), mnist(None)
step, problem = make_step(spec.training, "fused"), Problem(spec, dataset)
problem.base, problem.train  # there before anything is measured
train = lambda n: train_cohort(problem, range(n), step=step)
def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024
before = status("VmRSS")
train(8)
print(json.dumps([status("VmHWM") - before, status("VmHWM")]))
"""


def rows() -> list[Row]:
    """Write and read 2500 random masks in cohorts of 8, three times; medians."""
    spec = paper_spec()
    shapes = network_layers(spec)
    num_bytes = sum(layer.num_weights // 8 for layer in shapes)
    draw = np.random.default_rng(0)
    masks = [_mask(task, draw.bytes(num_bytes)) for task in range(NUM_TASKS)]
    network = {
        "kind": "lenet_300_100",
        "seed": 0,
        "outputs": 500,
        "digest": network_digest([w.numpy() for w in base_on(spec, "cpu")]),
    }
    named = tuple((layer.name, layer.shape) for layer in shapes)
    identity = StoreIdentity(fingerprint="0" * 64, layers=named, network=network)
    times = [_once(masks, identity) for _ in range(3)]
    ours_write, raw_write, ours_read, raw_read = (
        statistics.median(column) for column in zip(*times, strict=True)
    )
    size = f"{NUM_TASKS * num_bytes / 1e6:.1f} MB"
    return [
        _row(f"storing {NUM_TASKS} masks, {size}, synced", ours_write, raw_write),
        _row(f"reading {NUM_TASKS} masks, every digest checked", ours_read, raw_read),
    ]


def memory_row() -> Row:
    """Measure the peak memory of training 8 tasks in a fresh process."""
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    grown, peak = json.loads(done.stdout)
    spec = paper_spec(steps=20)
    formula = family_of(spec.network).peak_bytes(spec, network_layers(spec), 8)
    return Row(
        "memory that training 8 tasks adds at its peak (fused)",
        f"{grown / 1e6:.0f} MB, {peak / 1e6:.0f} MB in all",
        f"planned for: {formula / 1e6:.0f} MB",
        f"{grown / formula:.0%}",
    )


def _mask(task: int, bits: bytes) -> TaskMask:
    return TaskMask(task=task, bits=bits, test_accuracy=0.9, train_loss=0.2, train_seconds=1.0)


def _once(masks: list[TaskMask], identity: StoreIdentity) -> tuple[float, float, float, float]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store, raw = MaskStore(RunLayout(Path(folder)), identity), Path(folder) / "raw"
        raw.mkdir()
        cohorts = [masks[start : start + COHORT] for start in range(0, len(masks), COHORT)]
        clock = [time.perf_counter()]
        for cohort in cohorts:
            store.write_cohort(cohort, {"finished_s": 0.0})
        clock.append(time.perf_counter())
        for index, cohort in enumerate(cohorts):
            _write_synced(raw / str(index), b"".join(mask.bits for mask in cohort))
        clock.append(time.perf_counter())
        assert sum(1 for _ in store.iterate(range(len(masks)))) == len(masks)
        clock.append(time.perf_counter())
        for path in raw.iterdir():
            path.read_bytes()
        clock.append(time.perf_counter())
    return tuple(b - a for a, b in pairwise(clock))


def _write_synced(path: Path, content: bytes) -> None:
    """Write as the store does: file and folder synced."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _row(what: str, ours_s: float, raw_s: float) -> Row:
    return Row(what, f"{ours_s:.2f} s", f"plain files: {raw_s:.2f} s", f"{ours_s / raw_s:.1f} x")
