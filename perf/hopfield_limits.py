"""How many masks a memory may hold until recovery from images fails: one table and one figure.

From a finished run with masks on outputs, such as sweeps/hopsupsup_permuted_100.yaml: memories of the first k
masks, by both rules, and recovery of evenly spaced masks among them by the paper's search and by ours. Half of
a task's test images serve for the search, others are scored. A candidate more costs nothing to know: of twenty
candidates, the first c are what a search with c would have found.

    PYTHONPATH=. python perf/hopfield_limits.py RUN /path/to/data limits.csv --figure docs/hopfield_limits.png
"""

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.hopfield.memory import HopfieldMemory, Pattern, memorise
from core.hopfield.network import correct_with_masks, task_images
from core.hopfield.projected import search_stored
from core.hopfield.recovery import recover, split_images, step_batches
from core.masks.bits import unpack
from core.metrics import wilson
from core.specs.inference import HopfieldSpec
from orchestrator.report.draw import Curve, Panel, draw_panels
from orchestrator.runs.run import open_run

COUNTS = (10, 20, 50, 100)
CANDIDATES = 20
SHOWN = (10, 3)  # candidates, in the figure's first panel
DESCENT = HopfieldSpec()
OURS = HopfieldSpec(search="projected", candidates=CANDIDATES, batch_size=128)
NUM_SCORED = 1024


@dataclass(frozen=True, kw_only=True)
class Row:
    """Recoveries of one kind. exact: of num_recoveries. accuracy, true_accuracy: under the masks found, and the true."""

    search: str
    rule: str
    num_masks: int
    images_a_step: int
    candidates: int
    exact: int
    num_recoveries: int
    accuracy: float
    true_accuracy: float
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Which setting it belongs to."""
        return self.search, self.rule, self.num_masks, self.images_a_step


class Study:
    """A finished run, and memories of its masks."""

    def __init__(self, run_folder: Path, data: Path, num_tried: int) -> None:
        run, _ = open_run(run_folder)
        spec = run.config.run_spec()
        self.problem = Problem(spec, load_dataset(spec.benchmark, data))
        bits = run.store.iterate_bits(range(max(COUNTS)))
        self.masks: list[tuple[Pattern, ...]] = [unpack(one, run.identity.shapes) for one in bits]
        self.num_tried = num_tried

    def memory(self, rule: str, num_masks: int) -> HopfieldMemory:
        """Return the memory of the first masks, with its spectrum, which takes seconds."""
        memory = memorise(rule, self.masks[:num_masks])
        for layer in memory.layers:
            _ = layer.spectrum
        return memory

    def measure(self, spec: HopfieldSpec, num_masks: int) -> list[Row]:
        """Recover the masks of several tasks; a row for each number of candidates."""
        memory = self.memory(spec.rule, num_masks)
        tasks = np.unique(np.linspace(0, num_masks - 1, self.num_tried).astype(int)).tolist()
        started_s = time.perf_counter()
        found = [list(self._recover(spec, memory, task)) for task in tasks]
        seconds = (time.perf_counter() - started_s) / len(tasks)
        num = len(found[0])
        true = float(np.mean([self._accuracy(task, self.masks[task]) for task in tasks]))
        return [
            Row(
                search=spec.search,
                rule=spec.rule,
                num_masks=num_masks,
                images_a_step=spec.batch_size,
                candidates=number + 1,
                exact=sum(
                    _equal(masks[number], self.masks[task]) for task, masks in zip(tasks, found, strict=True)
                ),
                num_recoveries=len(tasks),
                accuracy=float(
                    np.mean([self._accuracy(t, masks[number]) for t, masks in zip(tasks, found, strict=True)])
                ),
                true_accuracy=true,
                seconds=seconds * (number + 1) / num,
            )
            for number in range(num)
        ]

    def _recover(
        self, spec: HopfieldSpec, memory: HopfieldMemory, task: int
    ) -> Iterator[tuple[Pattern, ...]]:
        """Yield the mask found with one candidate, with two, and so on."""
        rows = self.problem.view(task).test_rows
        adapted, _ = split_images(spec, rows)
        x_NI, _ = task_images(self.problem, task, self.problem.test, adapted)
        if spec.search == "descent":
            yield recover(spec, memory, x_NI, self.problem.base).mask
            return
        batches = step_batches(spec, memory, x_NI)
        candidates = search_stored(spec, memory, batches, self.problem.base, lambda *_: None)
        for number in range(1, len(candidates) + 1):
            best = min(candidates[:number], key=lambda candidate: candidate.entropy)
            yield tuple((layer > 0).numpy() for layer in best.z)

    def _accuracy(self, task: int, mask: tuple[Pattern, ...]) -> float:
        _, scored = split_images(DESCENT, self.problem.view(task).test_rows)
        x_NI, labels_N = task_images(self.problem, task, self.problem.test, scored[:NUM_SCORED])
        return float(correct_with_masks(x_NI, labels_N, self.problem.base, mask).mean())


def main() -> None:
    """Measure what the CSV does not have yet; print a table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--tasks", type=int, default=10, help="recoveries of each kind")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(options.run, options.data, options.tasks)
    rows = read(options.csv) if options.csv.exists() else []
    for spec, num_masks in settings():
        if key(spec, num_masks) in {row.key for row in rows}:
            continue
        rows += study.measure(spec, num_masks)
        print(row_text(rows[-1]), flush=True)
        write(options.csv, rows)
    if options.figure:
        draw(options.figure, rows)


def settings() -> Iterator[tuple[HopfieldSpec, int]]:
    """Yield what is measured: both searches and rules at each k, then fewer images a step."""
    for num_masks in COUNTS:
        yield OURS, num_masks
        yield DESCENT, num_masks
    yield replace(OURS, rule="hebbian"), 50
    yield replace(OURS, batch_size=64), 50


def key(spec: HopfieldSpec, num_masks: int) -> tuple[str, str, int, int]:
    """Return the ``Row.key`` of a setting."""
    return spec.search, spec.rule, num_masks, spec.batch_size


def read(path: Path) -> list[Row]:
    """Return the rows that were measured before."""
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    kinds = {field.name: field.type for field in fields(Row)}
    return [Row(**{name: kinds[name](value) for name, value in row.items()}) for row in found]


def row_text(row: Row) -> str:
    """Return a row as Markdown."""
    low, high = wilson(row.exact / row.num_recoveries, row.num_recoveries)
    return (
        f"| {row.search} | {row.rule} | {row.num_masks} | {row.images_a_step} | {row.candidates} "
        f"| {row.exact} of {row.num_recoveries} ({100 * low:.0f} to {100 * high:.0f} %) "
        f"| {100 * row.accuracy:.2f} | {100 * row.true_accuracy:.2f} | {row.seconds:.1f} |"
    )


def write(path: Path, rows: list[Row]) -> None:
    """Write all rows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def draw(path: Path, rows: list[Row]) -> None:
    """Draw exact recoveries against masks stored, and against candidates."""
    storkey = [row for row in rows if row.rule == "storkey"]
    usual = [row for row in storkey if row.images_a_step == OURS.batch_size or row.search == "descent"]
    ours = [row for row in usual if row.search == "projected"]
    curves = {f"ours, {c} candidates": [row for row in ours if row.candidates == c] for c in SHOWN}
    curves["paper's"] = [row for row in usual if row.search == "descent"]
    panels = [
        _panel("masks stored", curves, "num_masks"),
        _panel(
            "candidates, ours",
            {f"{k} masks": [row for row in ours if row.num_masks == k] for k in COUNTS},
            "candidates",
        ),
    ]
    draw_panels(path, panels, title="HopSupSup: masks recovered exactly from unlabelled images")


def _panel(x_label: str, curves: dict[str, list[Row]], x: str) -> Panel:
    return Panel(
        y_label="recovered exactly, %",
        x_label=x_label,
        curves=[
            Curve(name=name, values={getattr(r, x): [100 * r.exact / r.num_recoveries] for r in rows})
            for name, rows in curves.items()
        ],
    )


def _equal(found: tuple[Pattern, ...], true: tuple[Pattern, ...]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(found, true, strict=True))


if __name__ == "__main__":
    main()
