"""Scenario NNs: train on the stream, write checkpoints, store the masks.

A job gives the decision to stop at. Training resumes from memory or the last checkpoint, so any
worker can take over from any other, with identical bits.
"""

import time
from collections.abc import Iterator, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from core.errors import DamagedFileError
from core.stream.training import Decision, MaskState, StreamTrainer
from core.training.chunks import CohortMasks
from orchestrator.execution.jobs import Job, JobResult, JobStopped, TaskReport, task_reports
from orchestrator.worker.base import WorkerContext
from orchestrator.worker.checkpointer import JobSteps
from storage.decisions import Rows, read_decisions, score_rows, write_decisions
from storage.layout import RunLayout
from storage.mask_store import TaskMask
from storage.stream_state import (
    StateFile,
    StreamPosition,
    commit_position,
    drop_states,
    latest,
    read_mask_state,
    read_position,
    restart_stream,
    write_mask_state,
)

CHECKPOINT_S = 5.0  # the most work lost when a worker dies, besides the current decision


@dataclass
class StoredStates(MutableMapping[int, MaskState]):
    """The states of all masks; those changed since the last checkpoint in memory, the rest on disk."""

    layout: RunLayout
    files: dict[int, StateFile]
    changed: dict[int, MaskState] = field(default_factory=dict)

    def __getitem__(self, mask: int) -> MaskState:
        if mask in self.changed:
            return self.changed[mask]
        return _from_arrays(read_mask_state(self.layout, self.files[mask]))

    def __setitem__(self, mask: int, state: MaskState) -> None:
        """Keep a state in memory until the next checkpoint."""
        self.changed[mask] = state

    def __delitem__(self, mask: int) -> None:
        """Raise NotImplementedError: an allocated mask is never freed."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.files.keys() | self.changed.keys()))

    def __len__(self) -> int:
        return len(self.files.keys() | self.changed.keys())


@dataclass(frozen=True, kw_only=True)
class _Checkpoint:
    """The content of a checkpoint; empty at the start of the stream."""

    num_decisions: int
    rows: Rows
    states: StoredStates
    pending: tuple[int, MaskState] | None


class Stream:
    """A ``Handler``: trains on the stream."""

    def __init__(self, context: WorkerContext) -> None:
        self._context, self._layout, self._fingerprint = context, context.setup.layout, context.fingerprint
        self._note: str | None = None
        rules = context.setup.spec.training.allocation
        assert rules is not None, "a spec without task identity allocates"
        self._decide_every = rules.decide_every
        self._begin()

    def run(self, job: Job) -> JobResult:
        """Decide and train through decision ``job.last``; store the masks if the stream ends there.

        Raises JobStopped, after a decision, if the user has stopped the run.
        """
        if self._is_behind():
            self._begin()
        steps = JobSteps(self._context, job)
        while not self._trainer.is_done and self._trainer.num_decisions <= job.last:
            self._advance(job, steps)
            if time.monotonic() - self._saved_s >= CHECKPOINT_S or steps.is_stopping():
                self._save()
            if steps.is_stopping():
                raise JobStopped
        note, self._note = self._note, None
        self._save()  # a stop between two jobs reaches no handler
        return JobResult(reports=self._store_masks() if self._trainer.is_done else (), note=note)

    def _advance(self, job: Job, steps: JobSteps) -> None:
        """Make one decision and train until the next."""
        number = self._trainer.num_decisions
        before, total = (num * self._decide_every for num in (number - job.first, len(job.tasks)))
        decision = self._trainer.advance(lambda num_done: steps.report(before + num_done, total))
        self._rows.append(decision_row(number, decision))

    def _begin(self) -> None:
        """Resume from the last checkpoint; remove a damaged one, with a note to the user."""
        layout, fingerprint = self._layout, self._fingerprint
        try:
            found = _read_checkpoint(layout, fingerprint)
        except DamagedFileError as error:
            self._note = f"{error}; the stream starts again from the beginning"
            restart_stream(layout)
            found = _read_checkpoint(layout, fingerprint)
        self._rows, self._states = found.rows, found.states
        self._trainer = StreamTrainer(
            self._context.problem,
            step=self._context.step,
            states=self._states,
            pending=found.pending,
            num_done=found.num_decisions,
        )
        self._saved_s = time.monotonic()

    def _is_behind(self) -> bool:
        """Return whether another worker has gone further in the meantime."""
        try:
            position = read_position(self._layout, self._fingerprint)
        except DamagedFileError:
            return False  # this worker's memory is good, and overwrites it
        return position is not None and position.num_decisions > self._trainer.num_decisions

    def _save(self) -> None:
        """Commit a checkpoint: the log, then the states, then the position that names them."""
        layout, done = self._layout, self._trainer.num_decisions
        write_decisions(layout, self._rows, self._fingerprint, is_complete=False)
        states = self._states
        for mask, state in states.changed.items():
            states.files[mask] = write_mask_state(layout, mask, done, _to_arrays(state), is_pending=False)
        states.changed.clear()
        files = [states.files[mask] for mask in states]
        if self._trainer.pending is not None:
            mask, state = self._trainer.pending
            files.append(write_mask_state(layout, mask, done, _to_arrays(state), is_pending=True))
        position = StreamPosition(
            fingerprint=self._fingerprint,
            num_decisions=done,
            files=tuple(files),
        )
        commit_position(layout, position)
        self._saved_s = time.monotonic()

    def _store_masks(self) -> tuple[TaskReport, ...]:
        """Store all masks in files of cohort size, close the log, remove the checkpoint."""
        context, finished_s = self._context, time.time()
        homes = score_rows(self._rows).homes
        masks = [self._task_mask(mask, home) for mask, home in enumerate(homes)]
        size = context.setup.cohort_size
        cohorts = [masks[start : start + size] for start in range(0, len(masks), size)]
        reports: list[TaskReport] = []
        for cohort in cohorts:
            path = context.store.write_cohort(cohort, context.provenance(finished_s))
            reports += task_reports(cohort, path)
        write_decisions(self._layout, self._rows, self._fingerprint, is_complete=True)
        drop_states(self._layout)
        return tuple(reports)

    def _task_mask(self, mask: int, home: int) -> TaskMask:
        """Return the mask to store, with its test accuracy on task ``home``."""
        state, context = self._states[mask], self._context
        trained = CohortMasks(tasks=(home,), masks=tuple((scores >= 0)[None] for scores in state.scores))
        (correct,) = context.family.correct(context.problem, trained)
        return TaskMask(
            task=mask,
            bits=state.packed().tobytes(),
            test_accuracy=float(correct.mean()),
            train_loss=state.train_loss,
            train_seconds=state.train_seconds,
        )


def decision_row(number: int, decision: Decision) -> dict[str, Any]:
    """Return a row of the decision log."""
    row = asdict(decision)
    return {"decision": number, **row.pop("choice"), **row}


def _read_checkpoint(layout: RunLayout, fingerprint: str) -> _Checkpoint:
    """Read and verify the last checkpoint. Raises DamagedFileError."""
    position = read_position(layout, fingerprint)
    if position is None:
        return _Checkpoint(num_decisions=0, rows=[], states=StoredStates(layout, {}), pending=None)
    rows, _ = read_decisions(layout, fingerprint)
    if len(rows) < position.num_decisions:
        raise DamagedFileError(f"{layout.decisions} ends before the checkpoint does")
    pending = None
    for file in position.files:
        state = _from_arrays(read_mask_state(layout, file))
        pending = (file.mask, state) if file.is_pending else pending
    return _Checkpoint(
        num_decisions=position.num_decisions,
        rows=rows[: position.num_decisions],
        states=StoredStates(layout, latest(position.files)),
        pending=pending,
    )


def _to_arrays(state: MaskState) -> dict[str, Any]:
    arrays: dict[str, Any] = {f"scores{i}": scores for i, scores in enumerate(state.scores)}
    for i, layer in enumerate(state.buffers):
        arrays |= {f"buffer{i}-{slot}": values for slot, values in enumerate(layer)}
    numbers = ("num_steps", "train_loss", "train_seconds")
    return arrays | {key: np.array(getattr(state, key), dtype=np.float64) for key in numbers}


def _from_arrays(arrays: dict[str, Any]) -> MaskState:
    num_layers = sum(key.startswith("scores") for key in arrays)
    num_slots = sum(key.startswith("buffer0-") for key in arrays)
    return MaskState(
        scores=tuple(arrays[f"scores{i}"] for i in range(num_layers)),
        buffers=tuple(
            tuple(arrays[f"buffer{i}-{slot}"] for slot in range(num_slots)) for i in range(num_layers)
        ),
        num_steps=int(arrays["num_steps"]),
        train_loss=float(arrays["train_loss"]),
        train_seconds=float(arrays["train_seconds"]),
    )
