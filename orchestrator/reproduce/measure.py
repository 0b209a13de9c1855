"""The stored results of a target as tidy rows for tables and figures, and facts about its runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

import pyarrow as pa

from core.errors import RunFolderError
from core.masks.bits import joint_digest
from orchestrator.config.load import config_values, load_sweep
from orchestrator.reproduce.targets import Target, TargetRun, sweeps_folder
from orchestrator.runs.history import Session, read_sessions
from orchestrator.runs.results import GIVEN, Results, read_results
from orchestrator.runs.run import Run, locate_run, open_run
from storage.mask_info import MaskInfo

TargetFolders = Sequence[tuple[TargetRun, int, Run]]  # run of the target, seed, its run folder


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measured value. run: its name in the target. method: of inference, empty in GG.

    batches: number of test batches per task, or ``all``. Accuracies are fractions.
    """

    run: str
    seed: int
    scenario: str
    method: str
    batches: str
    k: int
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How one run of a target was made.

    num_tasks: with a stored mask (baselines: configured). wall_s: seconds of all sessions; without a
    record of sessions, from the first mask to the last. num_cut_short: sessions killed, or stopped by
    Ctrl-C. train_s: sum of the tasks' training loops; train_wall_s: of the spans in which sessions
    trained. masks_sha256: over the digests of all masks in order.
    """

    run: str
    seed: int
    folder: str
    num_tasks: int
    wall_s: float
    train_s: float
    num_sessions: int
    num_cut_short: int
    train_wall_s: float
    num_workers: int
    last_s: float
    masks_sha256: str
    config: dict[str, Any]
    provenance: dict[str, Any]


def target_folders(target: Target, settings: Sequence[str]) -> TargetFolders:
    """Return the run folders of a target in order; writes nothing. Raises ConfigError.

    Draws the base weights of each run: call it once and pass the result on.
    """
    folder = sweeps_folder()
    return [
        (one, seed, locate_run(load_sweep(folder / one.sweep, [*one.settings, f"seed={seed}", *settings])))
        for one in target.runs
        for seed in one.seeds
    ]


def measured(folders: TargetFolders) -> tuple[list[RunFacts], list[Measurement]]:
    """Return facts and measurements of the stored runs of a target."""
    facts, measurements = [], []
    for one, seed, located in folders:
        try:
            run, record = open_run(located.layout.root)
        except RunFolderError:
            continue
        known = run.store.facts()
        masks = known.infos()
        facts.append(_facts(one.name, seed, located, masks, record.provenance))
        measurements += _measurements(one.name, seed, located, masks, read_results(located, known))
    return facts, measurements


def measurements_table(measurements: Sequence[Measurement]) -> pa.Table:
    """Return a table with one row per measurement."""
    return pa.Table.from_pylist([asdict(measurement) for measurement in measurements])


def values_at(measurements: Sequence[Measurement], run: str, metric: str, k: int) -> list[float]:
    """Return a metric's values, one per seed. metric: ``scenario[/method]/metric``.

    If measured on several numbers of test batches, the largest number counts.
    """
    scenario, *method, name = metric.split("/")
    found = [
        p
        for p in measurements
        if (p.run, p.scenario, p.method, p.metric, p.k) == (run, scenario, "/".join(method), name, k)
    ]
    if not found:
        return []
    most = max((p.batches for p in found), key=lambda b: float("inf") if b == "all" else int(b))
    return [p.value for p in sorted(found, key=lambda p: p.seed) if p.batches == most]


def measured_ks(measurements: Sequence[Measurement], run: str, metric: str) -> set[int]:
    """Return each k at which a metric of a run was measured."""
    return {p.k for p in measurements if p.run == run and values_at([p], run, metric, p.k)}


def _facts(name: str, seed: int, run: Run, masks: Sequence[MaskInfo], provenance: dict[str, Any]) -> RunFacts:
    sessions = read_sessions(run.layout)
    finished_s = [one.finished_s for one in masks]
    spans = [
        (one.started_s, end) for one, end in zip(sessions, session_ends(sessions, finished_s), strict=True)
    ]
    if not spans and masks:  # made before sessions were recorded
        spans = [(min(one.started_s for one in masks), max(finished_s))]
    return RunFacts(
        run=name,
        seed=seed,
        folder=run.name,
        num_tasks=len(masks) if run.config.baseline is None else run.config.benchmark.num_tasks,
        wall_s=sum(end - start for start, end in spans),
        train_s=sum(one.train_seconds for one in masks),
        train_wall_s=_train_wall_s(spans, masks),
        num_sessions=len(sessions),
        num_cut_short=sum(one.status in (None, "KILLED") for one in sessions),
        num_workers=len({one.worker for one in masks}),
        last_s=max((end for _, end in spans), default=0.0),
        masks_sha256=joint_digest([one.digest for one in masks]) if masks else "",
        config=config_values(run.config),
        provenance=provenance,
    )


def _train_wall_s(spans: Sequence[tuple[float, float]], masks: Sequence[MaskInfo]) -> float:
    """Return the seconds from the first start to the last end of a mask, summed over sessions."""
    total_s = 0.0
    for start, end in spans:
        own = [one for one in masks if start <= one.finished_s <= end]
        if own:
            total_s += max(one.finished_s for one in own) - max(start, min(one.started_s for one in own))
    return total_s


def session_ends(sessions: Sequence[Session], finished_s: Sequence[float]) -> list[float]:
    """Return the end of each session; of a killed one, the time of its last mask."""
    starts = [one.started_s for one in sessions]
    spans = list(pairwise([*starts, float("inf")]))
    last = [max((t for t in finished_s if start <= t < end), default=start) for start, end in spans]
    return [one.ended_s or end for one, end in zip(sessions, last, strict=True)]


def _measurements(
    name: str, seed: int, run: Run, masks: Sequence[MaskInfo], results: Results
) -> list[Measurement]:
    measurements = [
        Measurement(
            run=name,
            seed=seed,
            scenario=one.scenario,
            method=one.method,
            batches=str(one.num_batches or "all"),
            k=one.k,
            metric=metric,
            value=value,
        )
        for one in results
        for metric, value in one.metrics.items()
    ]
    known = {p.k for p in measurements if p.scenario == GIVEN and p.batches == "all"}
    asked = (
        {p.k for p in measurements if p.k <= len(masks)} - known if run.config.training.is_given else set()
    )
    return measurements + [_given_by_masks(name, seed, masks, k) for k in sorted(asked)]


def _given_by_masks(name: str, seed: int, masks: Sequence[MaskInfo], k: int) -> Measurement:
    """Return GG over all test images, from the mask files, for tables that cover only some batches."""
    value = mean(one.test_accuracy for one in masks[:k])
    return Measurement(
        run=name, seed=seed, scenario=GIVEN, method="", batches="all", k=k, metric="accuracy", value=value
    )
