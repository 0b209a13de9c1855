"""``system.json``: how busy the controller's machine was, sampled while a run goes on.

Names and units are those of MLflow's system metrics, whose page draws them.
"""

import contextlib
import json
import threading
import time
from typing import Any

from storage.files import commit_json
from storage.layout import RunLayout

INTERVAL_S = 10.0
LATER_INTERVAL_S = 60.0  # after the first hour of samples, so that days of them stay a small file
NUM_OFTEN = 360

Sample = dict[str, float]  # "time_s", Unix time, and the metrics


def read_samples(layout: RunLayout) -> list[Sample]:
    """Return the samples of a run, the oldest first."""
    try:
        samples: list[Sample] = json.loads(layout.system.read_text())
    except (OSError, ValueError):
        return []
    return samples


class SystemSampler:
    """A thread that samples every ten seconds and keeps the file; ``close`` takes the last sample."""

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system-sampler", daemon=True)

    def start(self) -> None:
        """Begin; goes on after the samples that are there."""
        self._thread.start()

    def close(self) -> None:
        """End with a last sample."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=INTERVAL_S)

    def _work(self) -> None:
        # How busy a machine was is worth no trouble of the run's: a fault ends the sampling.
        with contextlib.suppress(Exception):
            monitors, samples = _monitors(), read_samples(self._layout)
            is_ended = False
            while not is_ended:
                is_ended = self._ended.wait(INTERVAL_S if len(samples) < NUM_OFTEN else LATER_INTERVAL_S)
                samples.append(_sample(monitors))
                commit_json(self._layout.system, samples)


def _monitors() -> list[Any]:
    """Return MLflow's own monitors, that of GPUs where there are any and pynvml is installed."""
    import psutil
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    psutil.cpu_percent()  # the first answer counts from the second call on
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
