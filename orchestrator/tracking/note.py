"""The note on a run's MLflow page, in Markdown: its setting, results and how to reproduce it."""

from collections.abc import Sequence
from statistics import mean

from core.errors import plural
from orchestrator.report.tables import RESULT_HEADS, result_rows
from orchestrator.report.text import duration, percent, what_words
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.history import Session, Status
from orchestrator.runs.results import Results
from orchestrator.runs.run import Run
from orchestrator.stages.base import Progress
from orchestrator.tracking.messages import FailedTask
from storage.mask_info import MaskInfo
from storage.run_file import RunRecord

ENDED = {"FINISHED": "finished", "FAILED": "finished with failures", "KILLED": "stopped before its end"}
NUM_WORST = 5


def note(
    run: Run,
    record: RunRecord,
    *,
    progress: Progress,
    infos: Sequence[MaskInfo],
    results: Results,
    failed: Sequence[FailedTask],
    sessions: Sequence[Session],
    status: Status,
) -> str:
    """Return the note in Markdown."""
    return "\n\n".join(
        [
            f"**{_verdict(progress, infos, failed, status)}**",
            what_words(run, record),
            *_result_table(results),
            *_worst(infos),
            _again(run, record, has_masks=bool(infos)),
            _where(run, sessions, has_masks=bool(infos)),
        ]
    )


def _verdict(
    progress: Progress,
    infos: Sequence[MaskInfo],
    failed: Sequence[FailedTask],
    status: Status,
) -> str:
    what = str(progress) if progress.unit == "tasks" else plural(len(infos), "mask")
    words = f"The run {ENDED[status]}: {what} trained"
    if infos:
        words += f", mean accuracy {percent(mean(one.test_accuracy for one in infos))} with the task given"
    return f"{words}; {len(failed)} failed." if failed else f"{words}."


def _result_table(results: Results) -> list[str]:
    rows = [f"| {' | '.join(cells)} |" for cells in result_rows(results)]
    head = [f"| {' | '.join(RESULT_HEADS)} |", "|" + " --- |" * len(RESULT_HEADS)]
    return ["\n".join(head + rows)] if rows else []


def _worst(infos: Sequence[MaskInfo]) -> list[str]:
    if len(infos) <= NUM_WORST:
        return []
    worst = sorted(infos, key=lambda one: one.test_accuracy)[:NUM_WORST]
    names = ", ".join(f"{one.task} ({percent(one.test_accuracy)})" for one in worst)
    return [f"Worst tasks: {names}."]


def _again(run: Run, record: RunRecord, *, has_masks: bool) -> str:
    made = record.provenance
    versions = ", ".join(f"{name} {made[name]}" for name in ("supsup", "torch", "numpy") if made.get(name))
    commit = f", commit `{made['git_commit'][:12]}`" if made.get("git_commit") else ""
    # Proved for the engines of CPUs; the others round as their GPU does.
    is_exact = has_masks and record.engine not in {"compiled", "triton"}
    same = "; the same gives the same masks, bit for bit" if is_exact else ""
    again = supsup_command("run", "config.yaml", config=run.config)
    return (
        f"**Reproduce it**: save the artifact `config.yaml`, then `{again}`. It was made with "
        f"{versions}{commit}, engine `{record.engine}`{same}. "
        f"Fingerprint `{run.fingerprint[:16]}`."
    )


def _where(run: Run, sessions: Sequence[Session], *, has_masks: bool) -> str:
    root = run.layout.root
    worked_s = sum(one.ended_s - one.started_s for one in sessions if one.ended_s is not None)
    worked = f" in {duration(worked_s)} of work, {plural(len(sessions), 'start')}" if worked_s else ""
    can_search = has_masks and run.config.can_answer
    words = [*([["evaluate", root], ["infer", root, "IMAGE"]] if can_search else []), ["verify", root]]
    commands = ", ".join(f"`{supsup_command(*one, config=run.config)}`" for one in words)
    return f"Everything is in `{root}`{worked}. Figures: artifact `report/report.html`. Read on: {commands}."
