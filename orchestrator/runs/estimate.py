"""What a run will take, in time and bytes, before it starts: from earlier runs like it in the same storage.

Nothing is tried out here: ``plan`` must be fast. Without a run like it, time follows from the number of
operations at the pace that docs/scaling.md has measured, with a wide range, where that pace can apply.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import ConfigError, RunFolderError
from core.masks.bits import packed_num_bytes
from orchestrator.config.load import build_sweep
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.nearest import deciding_keys
from orchestrator.runs.run import Run
from storage.layout import RunLayout, TableKey
from storage.locations import Location, entries, listed, to_location
from storage.mask_info import MaskInfo
from storage.mask_store import MaskStore
from storage.run_file import RunRecord, read_run

Range = tuple[float, float]

MAX_RUNS = 50  # read for one plan, those of the same name first
MAX_TASKS = 64  # looked at, of each run
ROW_BYTES = 800  # of a mask file, for each mask, besides the mask
# Keys that change neither the work of a step nor the bytes of a mask much.
NO_MATTER = ("seed", "benchmark.seed", "training.steps", "training.epochs", "training.optimizer.lr")
# LeNet 300-100 with 500 outputs: 182 MFLOP a step, 1000 steps in 2.7 s on a core (docs/scaling.md).
MEASURED_FLOP_PER_S = 182e6 * 1000 / 2.7
ROUGHLY = (1 / 2, 8.0)  # times the seconds at that pace
LEAST_WEIGHTS = 50_000  # below, a step is overhead more than operations


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier run: its sweep and record, and what it stored of its first tasks."""

    name: str
    config: SweepConfig
    record: RunRecord
    infos: tuple[MaskInfo, ...]
    layout: RunLayout


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the tasks of one run take, each as (least, most).

    task_s: seconds of training on one worker, None if unknown. mask_bytes: stored for a task.
    table_bytes: of all evaluation tables, None if unknown. state_bytes: of a task's checkpoint while it
    trains. basis: what times and sizes are taken from, as text.
    """

    task_s: Range | None
    mask_bytes: Range
    table_bytes: float | None
    state_bytes: float
    basis: str


def read_earlier(config: SweepConfig) -> list[Earlier]:
    """Return the readable runs in the storage of a sweep, those of its name first."""
    paths = listed(to_location(config.storage.uri), "*/run.json")
    roots = sorted((path.parent for path in paths), key=lambda root: not root.name.startswith(config.name))
    return list(filter(None, (_earlier(root) for root in roots[:MAX_RUNS])))


def _earlier(root: Location) -> Earlier | None:
    layout = RunLayout(root)
    try:
        record = read_run(layout)
        config = build_sweep(record.config, str(root))
        infos = _first_infos(MaskStore(layout, record.identity()), record)
    except (ConfigError, RunFolderError):
        return None
    return Earlier(name=root.name, config=config, record=record, infos=tuple(infos), layout=layout)


def _first_infos(store: MaskStore, record: RunRecord) -> list[MaskInfo]:
    """Return the masks of the first tasks, from files whose names follow from the cohort size if they are there."""
    size, end = record.cohort_size, record.num_tasks
    starts = range(0, min(MAX_TASKS, end), size)
    facts = store.facts_of(store.layout.cohort(first, min(first + size, end) - 1).name for first in starts)
    if facts.problems:
        facts = store.facts_of(store.locate().holding(range(MAX_TASKS)))
    return [info for info in facts.infos() if info.task < MAX_TASKS]


def estimate_run(run: Run, earlier: Sequence[Earlier], *, on_gpu: bool) -> Estimate:
    """Return the estimate of a run. earlier: the runs to take times and sizes from, if they are like it."""
    like = [one for one in earlier if one.infos and _work(one.config) == _work(run.config)]
    weights = sum(layer.num_weights for layer in run.layers)
    state_bytes = weights * (4 + run.config.training.optimizer.state_bytes)
    if like:
        return _measured(run, like, state_bytes)
    task_s, basis = _rough(run.config, weights, on_gpu=on_gpu)
    return Estimate(
        task_s=task_s,
        mask_bytes=_mask_bytes(run),
        table_bytes=None,
        state_bytes=state_bytes,
        basis=basis,
    )


def _work(config: SweepConfig) -> dict[str, Any]:
    """Return what decides the time of a step and the bytes of a mask."""
    keys = {key: value for key, value in deciding_keys(config).items() if key not in NO_MATTER}
    keys.pop("benchmark.num_tasks", None)
    return keys | {"counts": "steps" if config.training.steps is not None else "epochs"}


def _measured(run: Run, like: Sequence[Earlier], state_bytes: float) -> Estimate:
    seconds = [
        info.train_seconds * _length(run.config) / _length(one.config) for one in like for info in one.infos
    ]
    sizes = [info.num_bytes + info.num_norm_bytes + ROW_BYTES for one in like for info in one.infos]
    names = f"{like[0].name}{f' and {len(like) - 1} more' if len(like) > 1 else ''}"
    made_on = {str(one.record.provenance.get("processor")) for one in like}
    return Estimate(
        task_s=None if not run.config.training.is_given else (min(seconds), max(seconds)),
        mask_bytes=(min(sizes), max(sizes)),
        table_bytes=_table_bytes(run.config, like),
        state_bytes=state_bytes,
        basis=f"measured on {len(seconds)} tasks of {names}, {', '.join(sorted(made_on))}",
    )


def _length(config: SweepConfig) -> float:
    training = config.training
    return float(training.epochs if training.steps is None else training.steps) or 1.0  # type: ignore[arg-type]


def _table_bytes(config: SweepConfig, like: Sequence[Earlier]) -> float | None:
    """Return the bytes of all tables asked for, by the bytes a task in those of earlier runs."""
    each = [size for one in like[:3] for size in _bytes_a_task(one.layout)]
    num_rows = sum(config.evaluation.ks(config.benchmark.num_tasks)) * len(config.evaluation.asked)
    return num_rows * float(np.mean(each)) if each else None


def _bytes_a_task(layout: RunLayout) -> Iterator[float]:
    for entry in entries(layout.evaluations):
        stem, _, suffix = entry.name.rpartition(".")
        key = TableKey.parse(stem)
        if suffix == "parquet" and key is not None:
            yield entry.num_bytes / key.k


def _mask_bytes(run: Run) -> Range:
    """Return bounds from the density: as bits, or as gaps of at least their entropy."""
    most = packed_num_bytes(run.identity.shapes)
    density = run.config.mask.density if run.config.mask.rule == "top_k" else None
    least = float(most)
    if density is not None and 0 < density < 1:
        bits = -density * np.log2(density) - (1 - density) * np.log2(1 - density)
        least = most * float(bits)
    return least + ROW_BYTES, most + ROW_BYTES


def _rough(config: SweepConfig, weights: int, *, on_gpu: bool) -> tuple[Range | None, str]:
    """Return the seconds of a task by its operations, and the basis."""
    unlike = f"no run like it in {config.storage.uri} yet"
    training, traits = config.training, config.network.traits
    fits = traits.family == "perceptron" and weights >= LEAST_WEIGHTS and training.is_given
    if not fits or on_gpu or config.baseline is not None:
        return None, f"{unlike}, and no measured pace applies; a first run of a few tasks tells"
    seconds = 6 * weights * training.batch_size * training.num_steps / MEASURED_FLOP_PER_S
    low, high = ROUGHLY
    pace = f"{MEASURED_FLOP_PER_S / 1e9:.0f} GFLOP/s a core"
    words = f"roughly, from its operations at 1/8 to 2 times the pace measured in docs/scaling.md, {pace}"
    return (low * seconds, high * seconds), f"{unlike}; {words}"
