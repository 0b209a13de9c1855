"""Runs of many fake tasks: what each command costs, in CPU seconds, memory and listings of ``masks/``.

    python perf/growth.py make FOLDER 20000          # a finished run of 20,000 tasks, in cohorts of 8
    python perf/growth.py measure FOLDER status plan # each command in a process of its own, three times
    python perf/growth.py listing 313 12500 125000   # mapping tasks to that many files, by their names

The masks are 10 random bytes each, in files as any run writes them: sealed, each with its digest.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.data.datasets import load_dataset
from core.masks.bits import bits_digest, joint_digest, pack
from orchestrator.cluster.resources import find_resources
from orchestrator.config.load import load_sweep
from orchestrator.runs.record import ensure_record
from orchestrator.runs.run import Run, locate_run
from storage import files
from storage.layout import RunLayout, TableKey
from storage.mask_store import MaskStore, StoreIdentity, TaskMask
from storage.tables import given_metadata, given_table, write_evaluation

SWEEP = Path(__file__).resolve().parents[1] / "sweeps" / "digits_10.yaml"
COHORT, NUM_RUNS = 8, 3
TEST_IMAGES, TEST_BATCHES = 360, (128, 128, 104)
SETTINGS = (
    "network={kind: mlp, hidden: [1], outputs: 10}",
    "training.steps=1",
    f"training.cohort_size={COHORT}",
    "evaluation={scenarios: [GG], inference: null, at: null}",
    "executor.kind=inline",
    "tracking.uri=null",
)
# Runs a command, and then tells how often it listed masks/ and its peak memory.
CHILD = """
import json, os, resource, sys
seen = []
def hook(event, arguments):
    if event == "os.scandir" and str(arguments[0]).rstrip("/").endswith("/masks"):
        seen.append(1)
sys.addaudithook(hook)
from orchestrator.cli.main import app
try:
    app(sys.argv[2:], standalone_mode=False)
except SystemExit:
    pass
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
open(sys.argv[1], "w").write(json.dumps([len(seen), peak]))
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command took, start of Python included: medians of ``NUM_RUNS``."""

    cpu_s: float
    num_listings: int
    peak_bytes: int


def make(folder: Path, num_tasks: int) -> Run:
    """Make a finished run of fake tasks in ``folder``."""
    config = load_sweep(
        SWEEP,
        [*SETTINGS, f"name=fake_{num_tasks}", f"benchmark.num_tasks={num_tasks}", f"storage.uri={folder}"],
    )
    run = locate_run(config)
    ensure_record(run, find_resources(config.executor, connect=False), load_dataset(config.benchmark, None))
    files._sync = lambda _: None  # noqa: SLF001  # made again if it is lost
    digests = list(_store(run, num_tasks))
    table = given_table(
        range(num_tasks),
        dict.fromkeys(range(num_tasks), TEST_BATCHES),
        dict.fromkeys(range(num_tasks), TEST_IMAGES),
    )
    path = run.layout.evaluation(TableKey("GG", num_tasks))
    write_evaluation(path, table, given_metadata(num_tasks, run.fingerprint, "all", joint_digest(digests)))
    return run


def _store(run: Run, num_tasks: int) -> Iterator[str]:
    """Write the mask files and yield the digest of each mask."""
    draw, shapes = np.random.default_rng(0), run.identity.shapes
    made = {"host": "fake", "process_id": 1, "engine": "eager", "device": "cpu", "torch": "2"}
    for first in range(0, num_tasks, COHORT):
        tasks = range(first, min(first + COHORT, num_tasks))
        masks = [
            _mask(task, pack([draw.random(shape) < 0.5 for shape in shapes]).tobytes()) for task in tasks
        ]
        times = {"started_s": 1e9 + first, "finished_s": 1e9 + first + 1}
        run.store.write_cohort(masks, made | times)
        yield from (bits_digest(mask.bits) for mask in masks)


def _mask(task: int, bits: bytes) -> TaskMask:
    return TaskMask(task=task, bits=bits, test_accuracy=0.9, train_loss=0.2, train_seconds=0.1)


def measure(words: Sequence[str]) -> Cost:
    """Run one command of ``supsup`` several times, each in a process of its own."""
    once = [_once(words) for _ in range(NUM_RUNS)]
    cpu_s, num_listings, peak_bytes = (statistics.median(column) for column in zip(*once, strict=True))
    return Cost(cpu_s=cpu_s, num_listings=int(num_listings), peak_bytes=int(peak_bytes))


def _once(words: Sequence[str]) -> tuple[float, int, int]:
    with tempfile.NamedTemporaryFile() as told:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", CHILD, told.name, *words]
        subprocess.run(
            command, stdout=subprocess.DEVNULL, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        num_listings, peak_bytes = json.loads(Path(told.name).read_text())
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime), num_listings, peak_bytes


def _print_listing(num_files: int) -> None:
    """Print what one listing of many files costs. The files are empty: nothing opens them."""
    with tempfile.TemporaryDirectory() as folder:
        layout = RunLayout(Path(folder))
        layout.masks.mkdir()
        for first in range(0, num_files * COHORT, COHORT):
            layout.cohort(first, first + COHORT - 1).touch()
        seconds, store = [], MaskStore(layout, StoreIdentity(fingerprint="fake", layers=(), network={}))
        for _ in range(NUM_RUNS):
            start_s = time.process_time()
            found = store.locate()
            seconds.append(time.process_time() - start_s)
        print(f"{num_files:>8,} files, {len(found):>9,} tasks: {statistics.median(seconds):7.3f} s CPU")


def _words(command: str, root: Path) -> list[str]:
    """Return the words after ``supsup``; ``verify-quick`` and ``start`` are names of ours."""
    named = {"verify-quick": ["verify", str(root), "--quick"], "start": ["status", "--help"]}
    return named.get(command, [command, str(root)])


def main() -> None:
    """Make a run, or measure commands on it, or listings."""
    verb, folder, *rest = sys.argv[1:]
    if verb == "make":
        start_s = time.perf_counter()
        run = make(Path(folder).absolute(), int(rest[0]))
        print(f"{run.layout.root} in {time.perf_counter() - start_s:.1f} s")
        return
    if verb == "listing":
        for num_files in [folder, *rest]:
            _print_listing(int(num_files))
        return
    (root,) = (path.parent for path in Path(folder).glob("*/run.json"))
    for command in rest:
        cost = measure(_words(command, root))
        print(
            f"{command:<14}{cost.cpu_s:8.2f} s CPU {cost.num_listings:6} listings {cost.peak_bytes / 1e6:8.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
