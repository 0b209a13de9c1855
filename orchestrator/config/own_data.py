"""What a sweep leaves to the user's own arrays: the number of classes and the shape of an image."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.config.sweep import SweepConfig


def data_folder(configured: str | None) -> Path | None:
    """Return the folder of data sets, as configured or from SUPSUP_DATA; None if neither is set."""
    chosen = configured if configured is not None else os.environ.get("SUPSUP_DATA")
    return Path(chosen).expanduser() if chosen else None


def found_in_data(config: "SweepConfig") -> dict[str, Any]:
    """Return the keys of the benchmark that are found in its arrays. Raises DataError."""
    from core.data.datasets import load_dataset

    found = load_dataset(config.benchmark, data_folder(config.data_dir))
    return {"num_classes": found.num_classes, "shape": list(found.image_shape)}
