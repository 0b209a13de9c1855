"""What Prometheus may ask for at /metrics; with several replicas, the sum of all."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.serve.generation import Generation

MANY = "PROMETHEUS_MULTIPROC_DIR"  # a folder that replicas share; the library reads it when it is imported
LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCH_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


@dataclass(frozen=True)
class Metrics:
    """Counters of a server. registry: they are read from it."""

    registry: Any
    requests: Any
    images: Any
    seconds: Any
    batch_images: Any
    tasks: Any
    generations: Any

    def took_up(self, generation: Generation) -> None:
        """Count new masks."""
        self.tasks.set(generation.num_tasks)
        self.generations.inc()

    def answered(self, path: str, num_images: int) -> None:
        """Count images."""
        self.images.labels(path).inc(num_images)

    def replied(self, path: str, status: int, took_s: float) -> None:
        """Count a request."""
        self.requests.labels(path, status).inc()
        self.seconds.labels(path).observe(took_s)

    def counted(self, path: str, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return ``work`` on a batch of requests, counting the images in it."""
        sizes = self.batch_images.labels(path)

        def counted(requests: Any) -> Any:
            sizes.observe(sum(map(len, requests)))
            return work(requests)

        return counted

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry: Any = self.registry
        if MANY in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(registry))


def make_metrics() -> Metrics:
    """Return counters at zero."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    registry = CollectorRegistry()
    make: dict[str, Any] = {"registry": registry}
    return Metrics(
        registry=registry,
        requests=Counter("supsup_requests", "Requests, by path and status.", ["path", "status"], **make),
        images=Counter("supsup_images", "Images answered, by path.", ["path"], **make),
        seconds=Histogram(
            "supsup_request_seconds", "Time of a request.", ["path"], buckets=LATENCY_S, **make
        ),
        batch_images=Histogram(
            "supsup_batch_images", "Images in a batch.", ["path"], buckets=BATCH_IMAGES, **make
        ),
        tasks=Gauge("supsup_tasks", "Tasks served.", multiprocess_mode="max", **make),
        generations=Counter("supsup_generations", "Times that masks were taken up.", **make),
    )
