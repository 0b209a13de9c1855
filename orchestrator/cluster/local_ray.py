"""A Ray of this machine for one command, which starts while the command loads and checks other things."""

import threading
from types import TracebackType
from typing import Self


class LocalRay:
    """Starts in a thread of its own, which stays until the end: Linux ends Ray's processes with that thread."""

    def __init__(self, *, num_cpus: int, num_threads: int) -> None:
        self._num_cpus, self._num_threads = num_cpus, num_threads
        self._has_started, self._is_closing = threading.Event(), threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._hold, name="local Ray", daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        try:
            from orchestrator.cluster.connect import ray, start_ray  # takes a second to import

            start_ray(None, num_cpus=self._num_cpus, num_threads=self._num_threads)
        except Exception as error:  # whatever it is, whoever waits raises it
            self._error = error
        self._has_started.set()
        self._is_closing.wait()
        if self._error is None:
            ray.shutdown()

    def wait(self) -> None:
        """Return once Ray can be used. Raises WorkerError if it did not start."""
        self._has_started.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End Ray; may be called twice."""
        self._is_closing.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
