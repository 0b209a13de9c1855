"""What MLflow shows of a run, read from its folder alone: so it can be sent again, or anew."""

from collections.abc import Collection, Sequence

from core.masks.bits import joint_digest
from orchestrator.config.load import build_sweep, dotted_keys
from orchestrator.runs.history import Session, Status, read_failures, read_sessions, reason
from orchestrator.runs.results import finished_log, metrics_by_k, num_expected_masks, read_summary
from orchestrator.runs.run import Run
from orchestrator.runs.search_file import search_of
from orchestrator.tracking.messages import FailedTask, TrackedEnd, TrackedRun, TrackedTask
from orchestrator.tracking.note import note
from storage.checkpoints import num_learned
from storage.decisions import Rows
from storage.locations import listed
from storage.mask_info import MaskInfo, mask_info
from storage.run_file import RunRecord
from storage.tables import read_table

DECIMALS = 6  # of metrics: a table's columns are a dozen letters wide
TASK_METRICS = ("test_accuracy", "train_loss", "train_seconds", "density")
MAX_CURVE_POINTS = 1000  # more make MLflow slow and a chart no clearer


def tracked_run(run: Run, record: RunRecord) -> TrackedRun:
    """Return what is told at the start."""
    own = {"cohort_size": record.cohort_size, "engine": record.engine}
    return TrackedRun(
        experiment=run.config.name,
        name=run.name,
        fingerprint=run.fingerprint,
        created_s=record.created_s,
        params=dotted_keys(record.config) | own,
        tags=_tags(run, record),
        task_runs=run.config.tracking.task_runs or "all",
        dataset=run.config.benchmark.dataset,
        dataset_digest=record.provenance.get("dataset_digest"),
        search=search_of(run),
    )


def _tags(run: Run, record: RunRecord) -> dict[str, str]:
    made = record.provenance
    known = {
        "supsup.num_tasks": str(record.num_tasks),
        "supsup.network_digest": str(run.identity.network["digest"]),
        "supsup.folder": str(run.layout.root),
        "mlflow.source.name": "supsup run",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": made.get("git_commit"),
        **{f"supsup.version.{name}": made.get(name) for name in ("supsup", "torch", "numpy", "python")},
    }
    return {key: value for key, value in known.items() if value}


def tracked_tasks(run: Run, tasks: Collection[int] | None = None) -> list[TrackedTask]:
    """Return the trained tasks among ``tasks``, of all by default."""
    return [_tracked_task(facts) for facts in mask_info(run.store, tasks)]


def _tracked_task(facts: MaskInfo) -> TrackedTask:
    return TrackedTask(
        task=facts.task,
        metrics={key: round(getattr(facts, key), DECIMALS) for key in TASK_METRICS}
        | {"mask_bytes": facts.num_bytes},
        tags={
            "supsup.mask_file": facts.file,
            "supsup.mask_digest": facts.digest,
            "supsup.worker": facts.worker,
        },
        started_s=facts.finished_s - facts.train_seconds,
        finished_s=facts.finished_s,
    )


def tracked_end(run: Run, record: RunRecord) -> TrackedEnd:
    """Return what is told at the end: how the last session ended, and all that was measured."""
    facts, sessions, layout = mask_info(run.store), read_sessions(run.layout), run.layout
    own = build_sweep(record.config, str(layout.run_file))
    summary = read_summary(run)
    failed = _failed(run, record)
    is_whole = is_trained(run, record)
    status: Status = "FINISHED" if is_whole else "KILLED"
    if sessions:
        status = sessions[-1].status or "KILLED"
    return TrackedEnd(
        status=status,
        ended_s=_ended_s(facts, sessions, record),
        metrics=tuple(
            (key, step, round(value, DECIMALS))
            for key, step, value in metrics_by_k(summary, own) + _totals(facts) + _stream_curves(run)
        ),
        artifacts=(
            *((path, None) for path in (layout.config, layout.tasks) if path.exists()),
            *((path, "report") for path in listed(layout.report)),
        ),
        failed=failed,
        masks_digest=joint_digest([one.digest for one in facts]) if facts and is_whole else None,
        num_masks=len(facts),
        masks_folder=str(layout.masks),
        note=note(run, record, facts=facts, summary=summary, failed=failed, sessions=sessions, status=status),
    )


def is_trained(run: Run, record: RunRecord) -> bool:
    """Tell whether the run has, or before its masks were thrown away had, all that it was made for."""
    if run.config.baseline is not None:
        return num_learned(run.layout) >= record.num_tasks
    num_masks = num_expected_masks(run, record.num_tasks)
    if not num_masks:
        return False
    located = run.store.locate()
    if not located and run.layout.tasks.exists():
        return bool(read_table(run.layout.tasks).num_rows >= num_masks)
    return located.keys() >= set(range(num_masks))


def _ended_s(facts: Sequence[MaskInfo], sessions: Sequence[Session], record: RunRecord) -> float:
    if sessions and sessions[-1].ended_s is not None:
        return sessions[-1].ended_s
    begun_s = sessions[-1].started_s if sessions else record.created_s
    return max([begun_s, *(one.finished_s for one in facts)])


def _totals(facts: Sequence[MaskInfo]) -> tuple[tuple[str, int, float], ...]:
    """Return sums over the masks, with their number as the step: a run may grow."""
    if not facts:
        return ()
    sums = {
        "total/mask_bytes": float(sum(one.num_bytes for one in facts)),
        "total/train_seconds": sum(one.train_seconds for one in facts),
        "total/num_masks": float(len(facts)),
    }
    return tuple((key, len(facts), value) for key, value in sums.items())


def _failed(run: Run, record: RunRecord) -> tuple[FailedTask, ...]:
    return tuple(
        FailedTask(
            task=row["task"],
            error=reason(row),
            failed_s=row.get("failed_s", record.created_s),
        )
        for row in read_failures(run)
        if "task" in row
    )


def _stream_curves(run: Run) -> tuple[tuple[str, int, float], ...]:
    return () if run.config.training.is_given else curves(finished_log(run) or [])


def curves(rows: Rows) -> tuple[tuple[str, int, float], ...]:
    """Return (key, decision, value) for MLflow: masks allocated, and how sure the best one was."""
    found = []
    for row in rows[:: -(-len(rows) // MAX_CURVE_POINTS) or 1]:
        found.append(("stream/num_masks", row["decision"], float(row["num_masks"])))
        if row["max_nu"] is not None:
            confidence = row["max_nu"] * row["num_candidates"]
            found.append(("stream/confidence", row["decision"], confidence))
    return tuple(found)
