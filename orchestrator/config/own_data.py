"""What a sweep leaves to the user's own arrays: the number of classes and the shape of an image."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.specs.benchmark import BenchmarkSpec
    from orchestrator.config.sweep import SweepConfig


def data_folder(configured: str | None) -> Path | None:
    """Return the folder of data sets, as configured or from SUPSUP_DATA; None if neither is set."""
    chosen = configured if configured is not None else os.environ.get("SUPSUP_DATA")
    return Path(chosen).expanduser() if chosen else None


def found_in_data(config: "SweepConfig") -> dict[str, Any]:
    """Return the keys of the benchmark, or of its parts, that are found in the user's arrays. Raises DataError."""
    folder, benchmark = data_folder(config.data_dir), config.benchmark
    if benchmark.parts is None:
        return _found(benchmark, folder)
    parts = zip(benchmark.parts, benchmark.part_benchmarks, strict=True)
    return {"parts": [{**part.canonical(), **_found(one, folder)} for part, one in parts]}


def _found(benchmark: "BenchmarkSpec", folder: Path | None) -> dict[str, Any]:
    from core.data.datasets import load_dataset

    if benchmark.is_settled:
        return {}
    found = load_dataset(benchmark, folder)
    return {"num_classes": found.num_classes, "shape": list(found.image_shape)}
