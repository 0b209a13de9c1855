"""What `supsup push` sends of a bank that has grown: bytes and seconds, for 100 new tasks on a bank of 2,500.

    SUPSUP_DATA=... python perf/push_bytes.py FOLDER        # about 360 MB in FOLDER, which must be empty

The run is `sweeps/permuted_2500.yaml`, but its masks are random, at density 0.5, which no compression makes smaller; they
are in the files that any run writes, by the store's own writer. There are no tables.
"""

import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from core.data.datasets import load_dataset
from core.masks.bits import pack
from orchestrator.banks.pull import pull_run
from orchestrator.banks.push import push_run
from orchestrator.cli.display import make_display
from orchestrator.cluster.resources import find_resources
from orchestrator.config.load import load_sweep
from orchestrator.config.own_data import data_folder
from orchestrator.runs.record import ensure_record
from orchestrator.runs.run import Run, locate_run
from storage.mask_store import TaskMask

SWEEP = Path(__file__).resolve().parents[1] / "sweeps" / "permuted_2500.yaml"
COHORT = 8


def grown(folder: Path, num_tasks: int) -> Run:
    """Return the run with the masks of its first tasks; those that are missing are drawn."""
    settings = [
        f"benchmark.num_tasks={num_tasks}",
        f"storage.uri={folder / 'runs'}",
        f"training.cohort_size={COHORT}",
    ]
    config = load_sweep(SWEEP, [*settings, "executor.kind=inline", "tracking.uri=null"])
    run = locate_run(config)
    dataset = load_dataset(config.benchmark, data_folder(None))
    ensure_record(run, find_resources(config.executor, connect=False), dataset)
    for first in range(len(run.store.locate()), num_tasks, COHORT):
        masks = [_mask(run, task) for task in range(first, min(first + COHORT, num_tasks))]
        made = {"host": "fake", "process_id": 1, "engine": "fused", "device": "cpu", "torch": "2"}
        run.store.write_cohort(masks, made | {"started_s": 1e9 + first, "finished_s": 1e9 + first + 1})
    return run


def _mask(run: Run, task: int) -> TaskMask:
    draw = np.random.default_rng(task)
    bits = pack([draw.random(shape) < 0.5 for shape in run.identity.shapes]).tobytes()
    return TaskMask(task=task, bits=bits, test_accuracy=0.9, train_loss=0.2, train_seconds=0.1)


def main(folder: Path) -> None:
    """Push, grow, push, pull; print what each took."""
    store, display = folder / "store", make_display(Console(quiet=True), quiet=True)
    for num_tasks in (2500, 2500, 2600):
        run = grown(folder, num_tasks)
        start_s = time.perf_counter()
        sent = push_run(run.layout.root, store, display)
        seconds = time.perf_counter() - start_s
        print(
            f"push of {num_tasks:,} tasks: {sent.num_sent:,} files, {sent.sent_bytes:,} bytes and a list of "
            f"{sent.manifest_bytes:,}, of {sent.num_files:,} files, {sent.num_bytes:,} bytes; {seconds:.1f} s"
        )
    start_s = time.perf_counter()
    pulled = pull_run(run.name, store, folder / "pulled", display)
    print(
        f"pull: {pulled.num_fetched:,} files, {pulled.fetched_bytes:,} bytes; {time.perf_counter() - start_s:.1f} s"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
