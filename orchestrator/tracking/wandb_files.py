"""Weights & Biases as a tracker: an offline run in the run folder, which ``wandb sync`` uploads when you want.

It is written whole, when a session ends and by ``supsup sync``, in place of the one before, and always with the same
id: uploading it again replaces the run there. wandb works in a process of its own, which ends with ours.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from core.errors import ConfigError, SupSupError
from core.rooms import python
from orchestrator.tracking.base import Place
from orchestrator.tracking.messages import TrackedEnd, TrackedRun, TrackedTask
from storage.files import commit_bytes
from storage.locations import Location, local_copy, remove_tree

CODE = "from orchestrator.tracking.wandb_process import main; main()"
LIMIT_S = 300.0
AXES = {"task": "task", "stream": "decision"}  # the step of metrics, by the first word of their names
BY_K = "k"  # the step of all others
Row = dict[str, float]


@dataclass
class WandbFiles:
    """The offline run of one run. patience_s: wandb takes seconds to start, and more on a busy machine."""

    patience_s: ClassVar[float] = 60.0
    folder: Location
    _run: TrackedRun | None = None
    _tasks: dict[int, TrackedTask] = field(default_factory=dict)

    def open(self, run: TrackedRun) -> None:
        """Begin anew; nothing is written before the end."""
        self._run, self._tasks = run, {}
        self.folder.mkdir(parents=True, exist_ok=True)  # what is wrong there is told at once

    def tasks(self, tasks: Sequence[TrackedTask]) -> None:
        """Take note of tasks."""
        self._tasks |= {task.task: task for task in tasks}

    def end(self, end: TrackedEnd) -> None:
        """Write the offline run."""
        assert self._run is not None, "open comes first"
        with tempfile.TemporaryDirectory(prefix="supsup-") as scratch, ExitStack() as kept:
            images = {
                f"{folder}/{path.stem}": str(kept.enter_context(local_copy(path)))
                for path, folder in end.artifacts
                if path.suffix == ".png"
            }
            rows = [*map(_task_row, sorted(self._tasks.values(), key=lambda one: one.task)), *_rows(end)]
            content = _head(self._run, end) | {"rows": rows, "images": images, "folder": scratch}
            _write_in_process(content)
            self._keep(Path(scratch), self._run.created_s)

    def _keep(self, scratch: Path, created_s: float) -> None:
        """Take what wandb has written into the run folder, the file that holds it all last."""
        (written,) = scratch.glob("wandb/offline-run-*/*.wandb")
        when = time.strftime("%Y%m%d_%H%M%S", time.gmtime(created_s))
        target = self.folder / f"offline-run-{when}-{written.stem.removeprefix('run-')}"
        remove_tree(target / "files")
        for path in sorted((written.parent / "files").rglob("*")):
            if path.is_file():
                commit_bytes(_below(target, path.relative_to(written.parent)), path.read_bytes())
        commit_bytes(target / written.name, written.read_bytes())
        (target / f"{written.name}.synced").unlink(missing_ok=True)  # or `wandb sync` takes it for uploaded


def _below(folder: Location, path: Path) -> Location:
    for name in path.parts:
        folder /= name
    return folder


def _head(run: TrackedRun, end: TrackedEnd) -> dict[str, Any]:
    return {
        "id": run.fingerprint[:16],
        "project": run.experiment,
        "name": run.name,
        "group": run.search,
        "config": run.params | run.tags,
        "notes": end.note,
        "is_good": end.status == "FINISHED",
    }


def _task_row(task: TrackedTask) -> Row:
    values = {f"task/{key}": value for key, value in task.metrics.items()}
    return {"task": task.task, **values, "_timestamp": task.finished_s}


def _rows(end: TrackedEnd) -> list[Row]:
    """Return the metrics of a run, a row for each step of each axis."""
    found: dict[tuple[str, int], Row] = {}
    for key, step, value in end.metrics:
        axis = axis_of(key)
        found.setdefault((axis, step), {axis: step})[key] = value
    return [found[key] for key in sorted(found)]


def axis_of(key: str) -> str:
    """Return the name of the step of a metric: ``task``, ``decision`` or ``k``."""
    return AXES.get(key.partition("/")[0], BY_K)


def _write_in_process(content: dict[str, Any]) -> None:
    """Have another process write an offline run. Raises SupSupError.

    The pipe to it stays open until it is done: it ends when we do, however that happens.
    """
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(python(CODE), stdin=subprocess.PIPE, stdout=said, stderr=said) as process,
    ):
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(content).encode() + b"\n")
            process.stdin.flush()
            process.wait(LIMIT_S)
        finally:
            process.kill()
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            why = lines[-1] if lines else "no message"
            raise SupSupError(f"wandb ended with code {process.returncode}: {why}")


def make(place: Place) -> WandbFiles:
    """Return the offline run of a run. Raises ConfigError if wandb is not installed."""
    found = find_spec("wandb")
    if found is None or found.origin is None:  # a folder wandb/, as wandb leaves them, is no package
        raise ConfigError("tracking.also: found wandb, which is not installed: pip install 'supsup[wandb]'")
    return WandbFiles(place.folder)
