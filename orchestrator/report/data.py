"""The data behind a run's figures, read from its folder."""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from core.errors import DamagedFileError
from orchestrator.report.mask_sizes import MaskSizes, mask_sizes
from orchestrator.runs.accuracy_matrix import AccuracyMatrix, accuracy_matrices
from orchestrator.runs.history import read_sessions
from orchestrator.runs.made_from import TableSources, table_sources
from orchestrator.runs.results import Metrics, Results, read_results, test_batches
from orchestrator.runs.run import Run
from storage.layout import TableKey
from storage.locations import listed
from storage.mask_facts import MaskFacts
from storage.mask_files import MaskFiles
from storage.mask_info import MaskInfo
from storage.tables import read_derived, read_evaluation

MAX_CELLS = 100  # rows and columns of the confusion; beyond that, tasks share a cell
MAX_COMPARED = 64  # tasks whose masks are compared with each other
MAX_COUNTED = 500  # tasks whose density by layer is counted
LONG_PAUSE_S = 60.0  # longer pauses of all workers are cut out of the time line


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Inferences by true and inferred task, int64 [cells, cells]; ``width`` tasks per cell.

    share_right: fraction of inferences that found the task.
    """

    k: int
    width: int
    counts: NDArray[np.int64]
    share_right: float


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Margins of the true task over the best wrong one, float32, where known.

    share_wrong: fraction of inferences won by a wrong task.
    """

    values: NDArray[np.float32]
    share_wrong: float


@dataclass(frozen=True, kw_only=True)
class Spell:
    """A cohort on a worker; seconds since the start of the run, without pauses. session: its number."""

    session: int
    worker: str
    start_s: float
    end_s: float
    num_tasks: int


@dataclass(frozen=True, kw_only=True)
class TimeLine:
    """All spells, and the pauses cut out: (time, length), seconds.

    busy: the share of the workers' time that is training; each is there from its first cohort to the
    end of the last cohort of its session, whoever trains that one.
    """

    spells: tuple[Spell, ...]
    cuts: tuple[tuple[float, float], ...]
    busy: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """The data of all figures; missing data are empty or None.

    by_k: scenario -> k -> metrics, with the run's own method. margins: by k. densities: float [tasks,
    layers]. overlap: Jaccard index of two masks, float [tasks, tasks], of ``compared``. chance_overlap:
    its mean for independent masks of the same densities, layer by layer. matrices: of each scenario with several k.
    """

    name: str
    infos: Sequence[MaskInfo]
    results: Results
    by_k: dict[str, dict[int, Metrics]]
    confusion: Confusion | None
    margins: dict[int, Margins]
    objective: str
    layer_names: tuple[str, ...]
    densities: NDArray[np.float64]
    compared: tuple[int, ...]
    overlap: NDArray[np.float64]
    chance_overlap: float
    time_line: TimeLine
    num_weights: int
    sizes: MaskSizes | None
    matrices: tuple[AccuracyMatrix, ...]


def report_data(run: Run, facts: MaskFacts | None = None) -> ReportData:
    """Read the data of all figures from a run's folder. facts: of its masks, None for those of now."""
    facts = run.store.facts() if facts is None else facts
    infos, sources, files = facts.infos(), table_sources(run, facts), facts.files
    results = read_results(run, facts)
    tasks = [one.task for one in infos]
    compared = spread(tasks, MAX_COMPARED)
    method = run.config.evaluation.method
    densities = layer_densities(run, spread(tasks, MAX_COUNTED), files)
    return ReportData(
        name=run.name,
        infos=infos,
        results=results,
        by_k=_by_k(run, results),
        confusion=_confusion(run, sources),
        margins=_margins(run, sources),
        objective=getattr(method, "objective", ""),
        layer_names=run.identity.names,
        densities=densities,
        compared=tuple(compared),
        overlap=overlap(run, compared, files),
        chance_overlap=chance_overlap(run.identity.shapes, densities),
        time_line=time_line(infos, [session.started_s for session in read_sessions(run.layout)]),
        num_weights=sum(int(np.prod(shape)) for shape in run.identity.shapes),
        sizes=mask_sizes(run, infos, compared, files),
        matrices=tuple(accuracy_matrices(run, facts).values()),
    )


def spread(tasks: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` tasks, evenly spread."""
    if len(tasks) <= most:
        return list(tasks)
    return [tasks[i] for i in np.linspace(0, len(tasks) - 1, most).round().astype(int)]


def layer_densities(run: Run, tasks: Sequence[int], files: MaskFiles | None = None) -> NDArray[np.float64]:
    """Return the fraction of weights kept, float [tasks, layers]. files: where the masks are, if known."""
    shapes = run.identity.shapes
    ends = np.cumsum([-(-int(np.prod(shape)) // 8) for shape in shapes])
    rows = []
    for bits in run.store.iterate_bits(tasks, files):
        parts = np.split(bits, ends[:-1])
        ones = [int(np.bitwise_count(part).sum(dtype=np.int64)) for part in parts]
        rows.append([count / np.prod(shape) for count, shape in zip(ones, shapes, strict=True)])
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(shapes))


def overlap(run: Run, tasks: Sequence[int], files: MaskFiles | None = None) -> NDArray[np.float64]:
    """Return the Jaccard index of each two masks, float [tasks, tasks]: weights both keep / either keeps."""
    if not tasks:
        return np.zeros((0, 0))
    packed_TB = np.stack([*run.store.iterate_bits(tasks, files)])
    shares = np.ones((len(tasks), len(tasks)))
    for i, bits_B in enumerate(packed_TB[:-1]):
        rest_TB = packed_TB[i + 1 :]
        both = np.bitwise_count(rest_TB & bits_B).sum(axis=1, dtype=np.int64)
        either = np.bitwise_count(rest_TB | bits_B).sum(axis=1, dtype=np.int64)
        shares[i, i + 1 :] = shares[i + 1 :, i] = both / np.maximum(either, 1)
    return shares


def chance_overlap(shapes: Sequence[tuple[int, ...]], densities: NDArray[np.float64]) -> float:
    """Return the mean ``overlap`` of independent masks with each layer's mean density."""
    if not len(densities):
        return 0.0
    sizes, kept = np.array([np.prod(shape) for shape in shapes]), densities.mean(axis=0)
    both, either = (sizes * kept**2).sum(), (sizes * (2 * kept - kept**2)).sum()
    return float(both / either) if either else 0.0


def time_line(infos: Sequence[MaskInfo], sessions: Sequence[float] = ()) -> TimeLine:
    """Return when each worker trained which cohort, without long pauses of all workers.

    sessions: when each began, Unix time in seconds, ascending.
    """
    cohorts: dict[tuple[str, str, float], list[MaskInfo]] = {}
    for one in infos:
        cohorts.setdefault((one.worker, one.file, one.started_s), []).append(one)
    spans = sorted(
        (of[0].started_s, of[0].finished_s, worker, len(of)) for (worker, _, _), of in cohorts.items()
    )
    spells: list[Spell] = []
    cuts: list[tuple[float, float]] = []
    shift_s = latest_s = spans[0][0] if spans else 0.0
    for start_s, end_s, worker, num_tasks in spans:
        pause_s = start_s - latest_s
        if pause_s > LONG_PAUSE_S:
            cuts.append((latest_s - shift_s, pause_s))
            shift_s += pause_s
        latest_s = max(latest_s, end_s)
        spells.append(
            Spell(
                session=bisect_right(sessions, start_s),
                worker=worker,
                start_s=start_s - shift_s,
                end_s=end_s - shift_s,
                num_tasks=num_tasks,
            )
        )
    return TimeLine(spells=tuple(spells), cuts=tuple(cuts), busy=_busy(spells))


def _busy(spells: Sequence[Spell]) -> float:
    first_s: dict[tuple[int, str], float] = {}
    last_s: dict[int, float] = {}
    for one in spells:
        key = one.session, one.worker
        first_s[key] = min(first_s.get(key, one.start_s), one.start_s)
        last_s[one.session] = max(last_s.get(one.session, one.end_s), one.end_s)
    present_s = sum(last_s[session] - start_s for (session, _), start_s in first_s.items())
    return sum(one.end_s - one.start_s for one in spells) / present_s if present_s else 0.0


def _by_k(run: Run, results: Results) -> dict[str, dict[int, Metrics]]:
    found: dict[str, dict[int, Metrics]] = {}
    for one in results.own(run).ascending():
        found.setdefault(one.scenario, {})[one.k] = one.metrics
    return found


def _confusion(run: Run, sources: TableSources) -> Confusion | None:
    """Return the confusion of the largest k with the run's own method."""
    label, num_batches = run.config.evaluation.method.label, test_batches(run)
    for k in reversed(_stored_ks(run)):
        with suppress(DamagedFileError):
            path = run.layout.confusion(TableKey(label, k, num_batches))
            return _counted(k, read_derived(path, sources.masks(k)))
    return None


def _counted(k: int, table: pa.Table) -> Confusion:
    true, inferred = table["task"].to_numpy(), table["inferred_task"].to_numpy()
    num_tasks = int(max(true.max(), inferred.max())) + 1
    width = -(-num_tasks // MAX_CELLS)
    cells = np.zeros((-(-num_tasks // width),) * 2, dtype=np.int64)
    counts = table["num_inferences"].to_numpy()
    np.add.at(cells, (true // width, inferred // width), counts)
    right = float(counts[true == inferred].sum() / counts.sum())
    return Confusion(k=k, width=width, counts=cells, share_right=right)


def _margins(run: Run, sources: TableSources) -> dict[int, Margins]:
    label, num_batches, margins = run.config.evaluation.method.label, test_batches(run), {}
    scenarios = run.config.evaluation.inferred_scenarios
    for k in _stored_ks(run) if scenarios else ():
        try:
            path = run.layout.evaluation(TableKey(label, k, num_batches).of(scenarios[0]))
            table = read_evaluation(path, run.fingerprint, sources.masks(k))
        except DamagedFileError:
            continue
        if "gap" in table.column_names and table["gap"].null_count < len(table):
            num_right = pc.sum(pc.equal(table["rank"], 1)).as_py() or 0
            values = table["gap"].drop_null().to_numpy()
            margins[k] = Margins(values=values, share_wrong=1 - num_right / len(table))
    return margins


def _stored_ks(run: Run) -> list[int]:
    """Return each k with a table."""
    keys = [TableKey.parse(path.stem) for path in listed(run.layout.evaluations)]
    return sorted({key.k for key in keys if key is not None and key.num_batches in (None, test_batches(run))})
