"""What trackers show of a run, read from its folder alone, so that it can be sent again."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from statistics import mean

from core.masks.bits import joint_digest
from orchestrator.config.load import build_sweep, dotted_keys
from orchestrator.runs.history import Session, Status, read_failures, read_sessions, reason
from orchestrator.runs.results import finished_log, read_results
from orchestrator.runs.run import Run
from orchestrator.runs.search_file import search_of
from orchestrator.stages import training_stage
from orchestrator.tracking.messages import FailedTask, TrackedEnd, TrackedRun, TrackedTask
from orchestrator.tracking.note import note
from storage.decisions import Rows
from storage.locations import listed
from storage.mask_info import MaskInfo
from storage.run_file import RunRecord

TASK_METRICS = ("test_accuracy", "train_loss", "train_seconds", "density")
MAX_CURVE_POINTS = 1000  # more slow MLflow down without a clearer chart


def tracked_run(run: Run, record: RunRecord) -> TrackedRun:
    """Return what is sent at the start of a session."""
    own = {"cohort_size": record.cohort_size, "engine": record.engine}
    return TrackedRun(
        experiment=run.config.name,
        name=run.name,
        fingerprint=run.fingerprint,
        created_s=record.created_s,
        params={key: value for key, value in (dotted_keys(record.config) | own).items() if value is not None},
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


def tracked_tasks(run: Run, files: Collection[str] | None = None) -> list[TrackedTask]:
    """Return the trained tasks in mask files with these names, by default in all."""
    facts = run.store.facts() if files is None else run.store.facts_of(files)
    return [_tracked_task(info) for info in facts.infos()]


def _tracked_task(info: MaskInfo) -> TrackedTask:
    return TrackedTask(
        task=info.task,
        metrics=_task_metrics(info),
        tags={
            "supsup.mask_file": info.file,
            "supsup.mask_digest": info.digest,
            "supsup.worker": info.worker,
        },
        started_s=info.finished_s - info.train_seconds,
        finished_s=info.finished_s,
    )


def tracked_end(run: Run, record: RunRecord) -> TrackedEnd:
    """Return what is sent at the end of a session: its status and all results of the run."""
    facts, sessions, layout = run.store.facts(), read_sessions(run.layout), run.layout
    infos = facts.infos()
    own = build_sweep(record.config, str(layout.run_file))
    results, as_made = read_results(run, facts), replace(run, config=own)
    failed = _failed(run, record)
    progress = training_stage(own).progress(as_made, files=facts.files)
    is_whole = progress.is_complete
    status: Status = "FINISHED" if is_whole else "KILLED"
    if sessions:
        status = sessions[-1].status or "KILLED"
    return TrackedEnd(
        status=status,
        ended_s=_ended_s(infos, sessions, record),
        metrics=results.metrics_by_k(as_made) + _over_tasks(infos) + curves(finished_log(run) or []),
        artifacts=(
            *((path, None) for path in (layout.config, layout.tasks) if path.exists()),
            *((path, "report") for path in listed(layout.report)),
        ),
        failed=failed,
        masks_digest=joint_digest([one.digest for one in infos]) if infos and is_whole else None,
        num_masks=len(infos),
        masks_folder=str(layout.masks),
        note=note(
            run,
            record,
            progress=progress,
            infos=infos,
            results=results,
            failed=failed,
            sessions=sessions,
            status=status,
        ),
    )


def _ended_s(infos: Sequence[MaskInfo], sessions: Sequence[Session], record: RunRecord) -> float:
    if sessions and sessions[-1].ended_s is not None:
        return sessions[-1].ended_s
    begun_s = sessions[-1].started_s if sessions else record.created_s
    return max([begun_s, *(one.finished_s for one in infos)])


def _task_metrics(info: MaskInfo) -> dict[str, float]:
    return {key: getattr(info, key) for key in TASK_METRICS} | {"mask_bytes": float(info.num_bytes)}


def shortened(value: float) -> float:
    """Return a value with four digits, or whole: MLflow shows all it has, and its columns are narrow."""
    is_long = 1000 <= abs(value) < math.inf
    return float(round(value)) if is_long else float(f"{value:.4g}")


def _over_tasks(infos: Sequence[MaskInfo]) -> tuple[tuple[str, int, float], ...]:
    """Return means, by the names of a task's metrics, and sums; the step is their number, since a run may grow."""
    if not infos:
        return ()
    of_tasks = [_task_metrics(info) for info in infos]
    means = {key: mean(one[key] for one in of_tasks) for key in of_tasks[0]}
    sums = {
        "total/mask_bytes": float(sum(one.num_bytes for one in infos)),
        "total/train_seconds": sum(one.train_seconds for one in infos),
        "total/num_masks": float(len(infos)),
    }
    return tuple((key, len(infos), value) for key, value in (means | sums).items())


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


def curves(rows: Rows) -> tuple[tuple[str, int, float], ...]:
    """Return (key, decision, value) for MLflow: masks allocated, and the confidence in the best one."""
    found = []
    for row in rows[:: -(-len(rows) // MAX_CURVE_POINTS) or 1]:
        found.append(("stream/num_masks", row["decision"], float(row["num_masks"])))
        if row["max_nu"] is not None:
            confidence = row["max_nu"] * row["num_candidates"]
            found.append(("stream/confidence", row["decision"], confidence))
    return tuple(found)
