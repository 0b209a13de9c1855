"""``system.json``: samples of the load of the controller's machine during a run.

Names and units are those of MLflow's system metrics.
"""

import contextlib
import threading
import time
from typing import Any

from core.errors import DamagedFileError
from storage.files import commit_json
from storage.json_file import read_json
from storage.layout import RunLayout

INTERVAL_S = 10.0
LATER_INTERVAL_S = 60.0  # after the first hour, to keep the file small
NUM_OFTEN = 360

Sample = dict[str, float]  # "time_s", Unix time, and the metrics


def read_samples(layout: RunLayout) -> list[Sample]:
    """Return the samples of a run, oldest first."""
    try:
        return read_json(layout.system, list[Sample])
    except (OSError, DamagedFileError):
        return []


class SystemSampler:
    """A thread that samples the load and writes the file; ``close`` takes the last sample."""

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system-sampler", daemon=True)

    def start(self) -> None:
        """Start the thread, which appends to existing samples."""
        self._thread.start()

    def close(self) -> None:
        """Take a last sample and stop."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=INTERVAL_S)

    def _work(self) -> None:
        # An error ends the sampling, never the run.
        with contextlib.suppress(Exception):
            monitors, samples = _monitors(), read_samples(self._layout)
            is_ended = False
            while not is_ended:
                is_ended = self._ended.wait(INTERVAL_S if len(samples) < NUM_OFTEN else LATER_INTERVAL_S)
                samples.append(_sample(monitors))
                commit_json(self._layout.system, samples)


def _monitors() -> list[Any]:
    """Return MLflow's monitors; that of GPUs only if there are any and pynvml is installed."""
    import psutil
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    psutil.cpu_percent()  # the next call measures from here
    found: list[Any] = [CPUMonitor(), DiskMonitor()]
    with contextlib.suppress(ImportError, RuntimeError):
        found.append(GPUMonitor())
    return found


def _sample(monitors: list[Any]) -> Sample:
    sample: Sample = {"time_s": time.time()}
    for monitor in monitors:
        monitor.collect_metrics()
        sample |= monitor.aggregate_metrics()
        monitor.clear_metrics()
    return sample
