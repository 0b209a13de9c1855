"""An executor on Ray actors: one job per actor at a time, dead actors replaced, new nodes put to use.

The data set goes through the object store once per node, without a copy per worker.
Retries are up to the controller; Ray's own task retries stay off.
"""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any
from uuid import uuid4

from core.errors import LostWorkerError, SupSupError, WorkerError, first_line
from orchestrator.cluster.connect import (
    free_resources,
    is_canceled,
    live_nodes,
    own_error,
    ray,
    start_ray,
    thread_variables,
)
from orchestrator.cluster.steps import forget_steps, put_steps, read_steps
from orchestrator.execution.executor import WorkerFactory, WorkerLike, ignore_steps
from orchestrator.execution.jobs import Attempt, Job, JobResult, JobStopped, ReportSteps, StepsDone
from orchestrator.runs.sizing import workers_in_all
from storage.layout import host_name

GROW_EVERY_S = 5.0
READ_STEPS_S = 1.0
MAX_EQUAL_ERRORS = 3  # of workers that cannot start, one after another
PROBE_AGAIN_S = 1.0  # after a restarting actor did not answer


class _Actor:
    """Holds one worker, built at its first job so that its errors are reported as that job's."""

    def __init__(self, make_worker: WorkerFactory, steps_key: str, imports: Sequence[str]) -> None:
        self._make_worker, self._steps_key = make_worker, steps_key
        for name in imports:
            with suppress(Exception):  # raised again by the job that needs it
                import_module(name)
        self._worker: WorkerLike | None = None

    def run(self, job: Job, shared: Any) -> JobResult:
        """Run ``job``. shared: from the object store, read-only and not copied."""
        if self._worker is None:
            self._worker = self._make_worker(shared)
            self._worker.on_steps = partial(put_steps, self._steps_key)
            self._worker.is_stopping = is_canceled
        try:
            return self._worker.run(job)
        except JobStopped:  # Ray would take it for Ctrl-C of its own
            return JobResult()

    def where(self) -> str:
        """Return the host name; an actor that answers is ready."""
        return host_name()


@dataclass
class _Slot:
    """One actor. node: the host it was last ready on."""

    name: str
    handle: Any
    steps_key: str
    node: str = "?"

    def __str__(self) -> str:
        return f"{self.name} on {self.node}"


@dataclass
class _Running:
    slot: _Slot
    job: Job
    start_s: float
    steps: StepsDone | None = None


class RayExecutor:
    """Implements the contract of ``orchestrator.execution.executor`` on a local or remote Ray.

    num_workers: actors at the start. grows: whether to add actors when nodes join.
    job_limit_s: an actor whose job takes longer is killed and counts as a lost worker.
    has_variables: whether Ray was started with the environment of its workers. imports: modules that actors import
    before their first job.
    """

    def __init__(
        self,
        make_worker: WorkerFactory,
        shared: Any,
        *,
        num_workers: int,
        gpus_per_worker: float,
        threads_per_worker: int,
        address: str | None,
        grows: bool = False,
        job_limit_s: float | None = None,
        has_variables: bool = False,
        imports: Sequence[str] = (),
    ) -> None:
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            start_ray(address, num_cpus=num_workers * threads_per_worker, num_threads=threads_per_worker)
        has_variables = has_variables or (self._owns_ray and address is None)
        self._needs = {"CPU": float(threads_per_worker), "GPU": float(gpus_per_worker)}
        self._actor = ray.remote(_Actor).options(
            num_cpus=threads_per_worker,
            num_gpus=gpus_per_worker,
            max_restarts=-1,
            max_task_retries=0,
            runtime_env=None if has_variables else {"env_vars": thread_variables(threads_per_worker)},
        )
        self.on_steps: ReportSteps = ignore_steps
        self._id, self._read_s = uuid4().hex, 0.0
        self._make_worker, self._grows, self._job_limit_s = make_worker, grows, job_limit_s
        self._imports = tuple(imports)
        # Passed with each job, not to the actor, so that a restarted actor gets it again.
        self._shared = ray.put(shared)
        self._idle: dict[str, _Slot] = {}
        self._busy: dict[Any, _Running] = {}
        self._starting: dict[Any, _Slot] = {}  # by the call that returns once the actor is ready
        self._to_probe: list[tuple[float, _Slot]] = []  # when, and which
        self._nodes: dict[str, str] = {}
        self._num_made, self._grown_s = 0, time.monotonic()
        self._start_errors: list[str] = []  # of actors that could not start, since the last one that could
        for _ in range(num_workers):
            self._probe(self._new_slot())

    @property
    def num_slots(self) -> int:
        """Ready actors, idle or busy."""
        return len(self._idle) + len(self._busy)

    def shortage(self) -> str:
        """Return a sentence with what an actor requires and what the cluster has."""
        asks = " and ".join(f"{number:g} {kind}" for kind, number in self._needs.items() if number)
        num_waiting = len(self._starting) + len(self._to_probe)
        trouble = (
            f"; the last one that could not start: {self._start_errors[-1]}" if self._start_errors else ""
        )
        who = "1 worker requires" if num_waiting == 1 else f"{num_waiting} workers require"
        each = "" if num_waiting == 1 else " each"
        return f"{who} {asks}{each}; {free_resources()}{trouble}"

    def submit(self, job: Job, *, avoid: str | None = None) -> None:
        """Send ``job`` to an idle actor, if possible on another node than ``avoid``, else another actor."""
        assert self._idle, "submit was called with no slot free"
        node = self._nodes.get(avoid or "")
        slot = min(self._idle.values(), key=lambda slot: (slot.name == avoid) + (slot.node == node))
        del self._idle[slot.name]
        self._busy[slot.handle.run.remote(job, self._shared)] = _Running(slot, job, time.monotonic())

    def dismiss(self, worker: str) -> None:
        """Kill an idle actor and start another, which may land on another node."""
        slot = self._idle.pop(worker, None)
        if slot is not None:
            ray.kill(slot.handle)
            self._probe(self._new_slot())

    def collect(self, timeout_s: float) -> list[Attempt]:
        """Return the attempts that ended; wait up to ``timeout_s`` for the first, or for a new actor."""
        self._update_actors()
        self._read_steps()
        pending = [*self._busy, *self._starting]
        if not pending:
            time.sleep(min(timeout_s, PROBE_AGAIN_S) if self._to_probe else 0.0)
            return []
        first, _ = ray.wait(pending, num_returns=1, timeout=timeout_s)
        if not first:
            return []
        ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        for reference in ready:
            if reference in self._starting:
                self._on_ready(reference)
        return [self._attempt(reference) for reference in ready if reference in self._busy]

    def stop(self, limit_s: float) -> None:
        """Set Ray's flag of cancelled calls, which jobs ask for, and wait until they have ended."""
        busy = list(self._busy)
        with suppress(ray.exceptions.RayError):  # such as a head that is gone
            for reference in busy:
                ray.cancel(reference)
            if busy:
                ray.wait(busy, num_returns=len(busy), timeout=limit_s, fetch_local=False)

    def close(self) -> None:
        """Kill the actors without waiting for their jobs, and stop Ray if it was started here."""
        slots = [*self._idle.values(), *(running.slot for running in self._busy.values())]
        slots += [*self._starting.values(), *(slot for _, slot in self._to_probe)]
        if ray.is_initialized():
            for slot in slots:
                ray.kill(slot.handle)
                forget_steps(slot.steps_key)
        for kept in (self._idle, self._busy, self._starting):
            kept.clear()
        self._to_probe, self._shared, self._grows = [], None, False
        if self._owns_ray:
            ray.shutdown()
            self._owns_ray = False

    def _new_slot(self) -> _Slot:
        self._num_made += 1
        name = f"worker-{self._num_made - 1}"
        steps_key = f"{self._id}/{name}"
        return _Slot(name, self._actor.remote(self._make_worker, steps_key, self._imports), steps_key)

    def _probe(self, slot: _Slot) -> None:
        self._starting[slot.handle.where.remote()] = slot

    def _on_ready(self, reference: Any) -> None:
        """Add an actor that is ready to the idle ones; otherwise probe it again later, or replace it."""
        slot = self._starting.pop(reference)
        try:
            slot.node = self._nodes[slot.name] = ray.get(reference)
        except ray.exceptions.ActorUnavailableError:
            self._to_probe.append((time.monotonic() + PROBE_AGAIN_S, slot))
        except ray.exceptions.RayError as error:
            self._start_errors.append(_reason(error))
            self._check_start(error)
            self._to_probe.append((time.monotonic() + PROBE_AGAIN_S, self._new_slot()))
        else:
            self._start_errors.clear()
            # First in line, so that sequential jobs stay with the worker that holds their state.
            self._idle = {slot.name: slot, **self._idle}

    def _check_start(self, error: Exception) -> None:
        """Raise WorkerError if no actor can start, each for the same reason, which lies in what it runs."""
        last = self._start_errors[-MAX_EQUAL_ERRORS:]
        is_same = len(last) == MAX_EQUAL_ERRORS and len(set(last)) == 1
        if is_same and isinstance(error, ray.exceptions.ActorDiedError) and not self.num_slots:
            raise WorkerError(f"no worker can start; {len(last)} ended with: {last[0]}")

    def _update_actors(self) -> None:
        """Probe actors that were not ready, kill those over the job limit, and grow onto new nodes."""
        now_s = time.monotonic()
        for due in [item for item in self._to_probe if item[0] <= now_s]:
            self._to_probe.remove(due)
            self._probe(due[1])
        if self._job_limit_s is not None:
            for running in self._busy.values():
                if now_s - running.start_s > self._job_limit_s:
                    ray.kill(running.slot.handle, no_restart=False)
        if self._grows and now_s - self._grown_s > GROW_EVERY_S:
            self._grown_s = now_s
            self._grow()

    def _read_steps(self) -> None:
        """Pass on what busy actors have reported since the last time."""
        if time.monotonic() - self._read_s < READ_STEPS_S:
            return
        self._read_s = time.monotonic()
        for running in self._busy.values():
            steps = read_steps(running.slot.steps_key, running.job)
            if steps is not None and steps != running.steps:
                running.steps = steps
                self.on_steps(running.job, steps)

    def _grow(self) -> None:
        """Start as many more actors as the cluster has room for."""
        room = workers_in_all(live_nodes(), self._needs["CPU"], self._needs["GPU"])
        num_actors = self.num_slots + len(self._starting) + len(self._to_probe)
        for _ in range(room - num_actors):
            self._probe(self._new_slot())

    def _attempt(self, reference: Any) -> Attempt:
        running = self._busy.pop(reference)
        slot, job = running.slot, running.job
        found = result_or_error(reference, str(slot))
        if isinstance(found, LostWorkerError):
            self._probe(slot)
            if self._job_limit_s is not None and time.monotonic() - running.start_s > self._job_limit_s:
                minutes = self._job_limit_s / 60
                found = LostWorkerError(f"{slot} was stopped: its job took more than {minutes:g} min")
        else:
            self._idle = {slot.name: slot, **self._idle}
        if isinstance(found, Exception):
            return Attempt(job=job, worker=slot.name, error=found)
        return Attempt(job=job, worker=slot.name, result=found)


def result_or_error(reference: Any, worker: str) -> Any:
    """Return the result of a call or its error: the worker's own, or LostWorkerError.

    Raises SupSupError if the cluster itself is gone.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # first: it also subclasses the worker's own error
        own = own_error(error)
        own.add_note(re.sub(r"\x1b\[[0-9;]*m", "", f"on {worker}:\n{error}"))
        return own
    except ray.exceptions.LocalRayletDiedError as error:
        raise SupSupError(
            "lost the Ray cluster: the node that connects this command to it is gone; finished work is "
            "kept; run the same command again to resume"
        ) from error
    except ray.exceptions.RayError as error:
        return LostWorkerError(f"{worker} was lost: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return the cause from Ray's long message."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    if "creation task" in plain:
        return lines[-1][:300]  # the error of the worker itself
    why = [line for line in lines if line.startswith(("The actor", "Worker", "The node", "Task was killed"))]
    text = (why or [first_line(error)])[-1]
    # The actor's id and Ray's standard reminder do not help anyone.
    text = re.sub(r"^The actor [0-9a-f]{16,} is unavailable: ", "", text)
    return text.partition(" The task may or may not")[0][:300]
