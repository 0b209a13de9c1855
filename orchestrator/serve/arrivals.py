"""Tasks that arrive over HTTP: labelled images become a file of the run's folder of tasks, and a worker trains a mask.

The folder and the run folder are the only state. A file that is there and has no mask yet is trained by the next
`supsup run`, whoever starts it.
"""

import io
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import NAMES, OwnArrays, checked_arrays
from core.data.task_files import task_files, tasks_folder
from core.errors import ConfigError, DataError
from orchestrator.config.own_data import data_folder
from orchestrator.runs.history import failed_tasks
from orchestrator.runs.run import Run
from storage.files import commit

HELD_OUT = 5  # one of so many images of each class is tested on, if the request brings no test images
AGAIN_S = 15.0  # until a run that another controller holds, or that failed, is tried again
State = Literal["training", "failed", "served", "forgotten"]


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """Where a task that arrived is. reason: why it failed."""

    task: int
    state: State
    reason: str | None = None


class Arrivals:
    """The folder of tasks of a run, and the process that trains them.

    Raises ConfigError unless tasks of the run are files of a folder.
    """

    def __init__(self, run: Run) -> None:
        benchmark = run.config.benchmark
        if benchmark.kind != "files":
            raise ConfigError(
                f"--accept-tasks: {run.name} has the tasks of benchmark.kind {benchmark.kind!r}, expected 'files', whose "
                "tasks are files of a folder"
            )
        self._run, self._folder = run, tasks_folder(benchmark.dataset, data_folder(run.config.data_dir))
        last = max((path.name for path in task_files(self._folder)), default="")
        if last >= self._next_name():
            raise ConfigError(
                f"--accept-tasks: found {last} in {self._folder}, after which {self._next_name()} would not be the last; name the "
                "files task-00000.npz, task-00001.npz and so on"
            )
        self._writing, self._wanted, self._stopped = threading.Lock(), threading.Event(), threading.Event()
        self._problem: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._train, name="arrivals", daemon=True)

    def start(self) -> None:
        """Train what has arrived, now and later, in a thread."""
        self._wanted.set()
        self._thread.start()

    def close(self) -> None:
        """End the thread, and a training under way, which keeps its checkpoints."""
        self._stopped.set()
        self._wanted.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join()

    def add(self, arrays: Mapping[str, Any]) -> int:
        """Store a task; return its number. Raises DataError.

        arrays: x_train, y_train, x_test and y_test; or images and labels, of which every fifth of a class is held out.
        """
        benchmark = self._run.config.benchmark
        found = checked_arrays("task", _named(arrays))
        if found.shape != benchmark.image_shape or found.num_classes > benchmark.real_classes:
            raise DataError(
                f"task: found {found.num_classes} classes of images {list(found.shape)}, expected at most "
                f"{benchmark.real_classes} of {list(benchmark.image_shape)}"
            )
        with self._writing:
            task, name = len(task_files(self._folder)), self._next_name()
            commit(self._folder / name, lambda path: _write(path, found))
        self._wanted.set()
        return task

    def _next_name(self) -> str:
        return f"task-{len(task_files(self._folder)):05d}.npz"

    def state(self, task: int, num_served: int) -> TaskState | None:
        """Return where a task is, None if there is no such task. num_served: tasks with masks that are served."""
        if task < num_served:
            return TaskState(task=task, state="served")
        if task >= len(task_files(self._folder)):
            return None
        reason = failed_tasks(self._run).get(task, self._problem)
        return TaskState(task=task, state="training" if reason is None else "failed", reason=reason)

    def _train(self) -> None:
        while not self._stopped.is_set():
            self._wanted.wait()
            self._wanted.clear()
            while not self._stopped.is_set() and self._num_missing():
                self._problem = self._run_once()
                if self._problem is not None:
                    self._stopped.wait(AGAIN_S)

    def _num_missing(self) -> int:
        return len(task_files(self._folder)) - self._run.store.locate().num_leading

    def _run_once(self) -> str | None:
        """Train what is missing by `supsup run`; return why that failed, if it did."""
        num_tasks = len(task_files(self._folder))
        command = [sys.executable, "-P", "-m", "supsup", "run", str(self._run.layout.root), "--quiet"]
        self._process = subprocess.Popen(
            [*command, f"benchmark.num_tasks={num_tasks}", "evaluation.at=null"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, words = self._process.communicate()
        if self._process.returncode in (0, 1) and self._run.store.locate().num_leading >= num_tasks:
            return None
        lines = words.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"supsup run ended with {self._process.returncode}"


def _named(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return arrays by the keys of ``NAMES``, cutting test images off if there are none."""
    if "images" in arrays and "labels" in arrays:
        images, labels = np.asarray(arrays["images"]), np.asarray(arrays["labels"])
        if images.dtype.kind in "iu" and images.size and 0 <= images.min() <= images.max() <= 255:
            images = images.astype(np.uint8)  # JSON's whole numbers have no size
        if labels.shape != images.shape[:1]:
            raise DataError(
                f"labels: found {list(labels.shape)}, expected one for each of {images.shape[:1]}"
            )
        is_test = _held_out(labels)
        return {
            "train_images": images[~is_test],
            "train_labels": labels[~is_test],
            "test_images": images[is_test],
            "test_labels": labels[is_test],
        }
    found: dict[str, Any] = {
        key: next((arrays[name] for name in names if name in arrays), None) for key, names in NAMES.items()
    }
    missing = [NAMES[key][0] for key, array in found.items() if array is None]
    if missing:
        raise DataError(
            f"body: found no {missing[0]}, expected x_train, y_train, x_test and y_test; or images and labels"
        )
    return {key: np.asarray(array) for key, array in found.items()}


def _held_out(labels_N: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which images to test on: of each class, the last of every five, and the last one at least."""
    is_test = np.zeros(len(labels_N), dtype=bool)
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        is_test[rows[HELD_OUT - 1 :: HELD_OUT]] = True
        is_test[rows[-1]] = True
    return is_test


def _write(path: Path, task: OwnArrays) -> None:
    stream = io.BytesIO()
    arrays: dict[str, Any] = {names[0]: _channels_last(getattr(task, key)) for key, names in NAMES.items()}
    np.savez(stream, **arrays)
    path.write_bytes(stream.getvalue())


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
