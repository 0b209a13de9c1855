"""Names inside a run folder; no other module builds one.

    <name>-<first 8 of fingerprint>/
      run.json
      .lock                                  held by the controller; names its holder
      live.json                              how far the controller is, while it is at work
      failures.json                          tasks that failed, only while there are any
      sessions.json                          when a controller worked here, and how each session ended
      system.json                            processor, memory and disk of the controller's machine
      logs/train-00003-00003.log             attempts at jobs that failed at least once
      masks/cohort-00000-00031.parquet
      masks/forgotten-00007.json             tombstone of a task whose mask was removed for good
      facts.parquet                          what these files say besides their masks; rebuilt if lost
      evaluations/GG-10.parquet, GNu-one_shot-G-1-10.parquet
      evaluations/parts/one_shot-G-1-10/tasks-00000-00007.parquet    until the table is complete
      evaluations/recovery-<label>-5.parquet       HopSupSup: each step of each recovery
      bank/masks-00010-<8 of digest>.npy     masks laid out for task inference; rebuilt if lost
      saves/cohort-00000-00031-<16 of digest>.npz  checkpoint of a cohort in training, until it is stored
      transfer/scores-00004-<16 of digest>.npz     sum of the scores of tasks 0 to 3, for later tasks
      baseline/state-00004-<16 of digest>.npz      a baseline after four tasks, in place of masks
      stream/decisions.parquet               scenario NNs: every decision, with the true task
      stream/state.json, mask-00003-000120.npz     checkpoint of the stream, until it ends
      hopfield/storkey-00005.parquet         HopSupSup: Psi and the sums of the stored masks
      BANK.md, bank.sig                      card of a bank that was pushed or signed, and its signature
      report/summary.json, tasks.parquet, config.yaml, confusion-one_shot-G-1-10.parquet
      report/matrix-GG.parquet, matrix-GNu-one_shot-G-1.parquet     accuracy of each task at each k
      report/report.json                     what the figures and the page were drawn from
      trackers/tensorboard/, trackers/wandb/ files for viewers of other projects; made from the rest
      quarantine/                            files that `verify --repair` moved out of the way

A temporary file is named .<target>.<host>.<process id>.<random>.tmp, beside its target.
"""

import os
import re
import socket
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from storage.locations import Location, ObjectPath

_COHORT = re.compile(r"cohort-(\d{5,7})-(\d{5,7})\.parquet")
_TOMBSTONE = re.compile(r"forgotten-(\d{5,7})\.json")
_TABLE = re.compile(r"(.+)-(\d+)(?:-b(\d+))?")
_TEMPORARY = re.compile(r"\..+\.([A-Za-z0-9-]+)\.(\d+)\.[0-9a-f]{8}\.tmp")


def run_folder_name(name: str, fingerprint: str) -> str:
    """Return the name of a run's folder."""
    return f"{name}-{fingerprint[:8]}"


@dataclass(frozen=True)
class TableKey:
    """The key of an evaluation table, which names all files that belong to it.

    label: ``GG``, or the scenario and method, such as ``GNu-one_shot-G-1``; the method alone for parts
    and other files that serve several scenarios. k: number of tasks, the first ones. num_batches: number
    of test batches of each task, the first ones; None for all.
    """

    label: str
    k: int
    num_batches: int | None = None

    def __str__(self) -> str:
        name = f"{self.label}-{self.k}"
        return name if self.num_batches is None else f"{name}-b{self.num_batches}"

    def of(self, scenario: str) -> "TableKey":
        """Return the key of one scenario's table."""
        return replace(self, label=f"{scenario}-{self.label}")

    @classmethod
    def parse(cls, name: str) -> "TableKey | None":
        """Return the key whose files have this name (without suffix), or None for any other name."""
        match = _TABLE.fullmatch(name)
        if match is None:
            return None
        return cls(match[1], int(match[2]), int(match[3]) if match[3] else None)


@dataclass(frozen=True)
class RunLayout:
    """Paths inside the run folder ``root``; building one does not access the disk."""

    root: Location

    @property
    def run_file(self) -> Location:
        """The run's record (``storage.run_file.RunRecord``)."""
        return self.root / "run.json"

    @property
    def lock(self) -> Location:
        """The lock file, held by the controller at work."""
        return self.root / ".lock"

    @property
    def card(self) -> Location:
        """What a bank is and how to read it, for those it is shared with."""
        return self.root / "BANK.md"

    @property
    def signature(self) -> Location:
        """The signature of a bank."""
        return self.root / "bank.sig"

    @property
    def live(self) -> Location:
        """How far the controller at work is."""
        return self.root / "live.json"

    @property
    def failures(self) -> Location:
        """Failed tasks, with the reason."""
        return self.root / "failures.json"

    @property
    def sessions(self) -> Location:
        """When a controller worked here."""
        return self.root / "sessions.json"

    @property
    def system(self) -> Location:
        """Samples of the controller's machine."""
        return self.root / "system.json"

    def log(self, kind: str, first: int, last: int) -> Location:
        """Return the log of a job that failed at least once."""
        return self.logs / f"{kind}-{first:05d}-{last:05d}.log"

    @property
    def logs(self) -> Location:
        """Folder of job logs."""
        return self.root / "logs"

    def tracker(self, name: str) -> Location:
        """Return the folder of what a tracker with files shows."""
        return self.root / "trackers" / name

    @property
    def masks(self) -> Location:
        """Folder of mask files."""
        return self.root / "masks"

    @property
    def facts(self) -> Location:
        """The index of what is known of the masks, which can be rebuilt from their files."""
        return self.root / "facts.parquet"

    @property
    def evaluations(self) -> Location:
        """Folder of evaluation tables."""
        return self.root / "evaluations"

    @property
    def quarantine(self) -> Location:
        """Folder of the files that ``verify --repair`` took out of ``masks``."""
        return self.root / "quarantine"

    @property
    def report(self) -> Location:
        """Folder of everything derived from the other files."""
        return self.root / "report"

    @property
    def summary(self) -> Location:
        """Accuracies, by scenario and k."""
        return self.report / "summary.json"

    @property
    def report_record(self) -> Location:
        """What the figures and the page were drawn from."""
        return self.report / "report.json"

    @property
    def tasks(self) -> Location:
        """One row per task: the mask files without their bits."""
        return self.report / "tasks.parquet"

    @property
    def config(self) -> Location:
        """The resolved sweep file."""
        return self.report / "config.yaml"

    def cohort(self, first: int, last: int) -> Location:
        """Return the mask file of tasks ``first`` to ``last``, inclusive."""
        return self.masks / _cohort_name(first, last)

    def tombstone(self, task: int) -> Location:
        """Return the tombstone of a forgotten task."""
        return self.masks / _tombstone_name(task)

    @property
    def saves(self) -> Location:
        """Folder of checkpoints of cohorts in training."""
        return self.root / "saves"

    def cohort_checkpoint(self, first: int, last: int) -> Location:
        """Return the checkpoint of tasks ``first`` to ``last``, without the digest at the end of its stem."""
        return self.saves / f"cohort-{first:05d}-{last:05d}.npz"

    @property
    def baseline(self) -> Location:
        """Folder of a baseline's state."""
        return self.root / "baseline"

    def baseline_state(self, num_tasks: int) -> Location:
        """Return the state after ``num_tasks`` tasks, without the digest at the end of its stem."""
        return self.baseline / f"state-{num_tasks:05d}.npz"

    @property
    def transfer(self) -> Location:
        """Folder of the scores that later tasks start from."""
        return self.root / "transfer"

    def score_sum(self, num_tasks: int) -> Location:
        """Return the sum of the scores of the first tasks, without the digest at the end of its stem."""
        return self.transfer / f"scores-{num_tasks:05d}.npz"

    def evaluation(self, key: TableKey) -> Location:
        """Return an evaluation table."""
        return self.evaluations / f"{key}.parquet"

    def evaluation_parts(self, key: TableKey) -> Location:
        """Return the folder of the parts that workers have written of an incomplete table."""
        return self.evaluations / "parts" / str(key)

    def evaluation_part(self, key: TableKey, first: int, last: int) -> Location:
        """Return the part of tasks ``first`` to ``last``, inclusive."""
        return self.evaluation_parts(key) / f"tasks-{first:05d}-{last:05d}.parquet"

    def confusion(self, key: TableKey) -> Location:
        """Return the confusion table: how often each task was inferred as which."""
        return self.report / f"confusion-{key}.parquet"

    def matrix(self, key: TableKey) -> Location:
        """Return the accuracy matrix over all k of a table; its own k does not matter."""
        batches = "" if key.num_batches is None else f"-b{key.num_batches}"
        return self.report / f"matrix-{key.label}{batches}.parquet"

    def recovery(self, key: TableKey) -> Location:
        """Return the table of the steps of each recovery, next to its evaluation table."""
        return self.evaluations / f"recovery-{key}.parquet"

    def recovery_part(self, key: TableKey, first: int, last: int) -> Location:
        """Return the recovery steps of tasks ``first`` to ``last`` while the tables are incomplete."""
        return self.evaluation_parts(key) / f"steps-{first:05d}-{last:05d}.parquet"

    @property
    def memories(self) -> Location:
        """Folder of Hopfield memories."""
        return self.root / "hopfield"

    def memory(self, rule: str, num_masks: int) -> Location:
        """Return the Hopfield memory of the first ``num_masks`` masks, stored by ``rule``."""
        return self.memories / f"{rule}-{num_masks:05d}.parquet"

    @property
    def stream(self) -> Location:
        """Folder of a run without task identity."""
        return self.root / "stream"

    @property
    def decisions(self) -> Location:
        """Every decision of the stream so far."""
        return self.stream / "decisions.parquet"

    @property
    def stream_state(self) -> Location:
        """Position and state of the stream; committing it commits a checkpoint."""
        return self.stream / "state.json"

    def mask_state(self, mask: int, num_decisions: int) -> Location:
        """Return the scores and optimizer state of ``mask`` after ``num_decisions`` decisions."""
        return self.stream / f"mask-{mask:05d}-{num_decisions:06d}.npz"

    @property
    def banks(self) -> Path:
        """Folder of masks laid out for task inference, which can all be rebuilt.

        Processes map its files, so the bank of a run in an object store is cached on each machine.
        """
        if isinstance(self.root, ObjectPath):
            return cache_folder() / "banks" / self.root.name
        return self.root / "bank"

    def bank(self, num_tasks: int, digest: str) -> Path:
        """Return the bank of the first ``num_tasks`` masks; ``digest`` is their joint digest."""
        return self.banks / f"masks-{num_tasks:05d}-{digest[:8]}.npy"


def cohort_range(name: str) -> tuple[int, int] | None:
    """Return (first, last) from a mask file's name, or None for any other name."""
    match = _COHORT.fullmatch(name)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    return (first, last) if first <= last and _cohort_name(first, last) == name else None


def forgotten_task(name: str) -> int | None:
    """Return the task from a tombstone's name, or None for any other name."""
    match = _TOMBSTONE.fullmatch(name)
    return int(match[1]) if match and _tombstone_name(int(match[1])) == name else None


def _tombstone_name(task: int) -> str:
    return f"forgotten-{task:05d}.json"


def _cohort_name(first: int, last: int) -> str:
    return f"cohort-{first:05d}-{last:05d}.parquet"


def temporary_path(target: Path) -> Path:
    """Return a fresh name beside ``target`` that identifies its writer."""
    return target.with_name(f".{target.name}.{host_name()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def temporary_writer(name: str) -> tuple[str, int] | None:
    """Return (host, process id) of a temporary file's writer, or None for any other name."""
    match = _TEMPORARY.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def cache_folder() -> Path:
    """Return the folder of this machine for files that can be rebuilt or fetched again."""
    return Path(os.environ.get("SUPSUP_CACHE") or Path.home() / ".cache" / "supsup")


def host_name() -> str:
    """Return this machine's name, reduced to the characters allowed in file names here."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "unknown"
