"""What a sweep leaves to the user's own data: the number of classes, the shape of an image, tasks, and their order."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, DataError, first_line
from core.specs.benchmark import BenchmarkSpec, in_part
from core.specs.benchmark_checks import MAX_CLASSES, ORDERS
from core.specs.part import PartSpec

if TYPE_CHECKING:
    from orchestrator.config.sweep import SweepConfig

MAX_ORDER_BYTES = 10_000_000  # of a file with an order of classes


def data_folder(configured: str | None) -> Path | None:
    """Return the folder of data sets, as configured or from SUPSUP_DATA; None if neither is set."""
    chosen = configured if configured is not None else os.environ.get("SUPSUP_DATA")
    return Path(chosen).expanduser() if chosen else None


def found_in_data(config: "SweepConfig") -> dict[str, Any]:
    """Return the keys of the benchmark, or of its parts, that are found in the user's data. Raises InputError."""
    folder, benchmark = data_folder(config.data_dir), config.benchmark
    if benchmark.parts is None:
        return found_keys(benchmark, folder)
    pairs = enumerate(zip(benchmark.parts, benchmark.part_benchmarks, strict=True))
    return {"parts": [_found_in_part(number, part, one, folder) for number, (part, one) in pairs]}


def _found_in_part(number: int, part: PartSpec, one: BenchmarkSpec, folder: Path | None) -> dict[str, Any]:
    try:
        return {**part.canonical(), **found_keys(one, folder)}
    except (ConfigError, DataError) as error:
        raise type(error)(in_part(str(error), number)) from error


def found_keys(benchmark: BenchmarkSpec, folder: Path | None) -> dict[str, Any]:
    """Return the keys of a benchmark of one data set that are found in the user's data. Raises InputError."""
    from core.data.datasets import load_dataset

    order = benchmark.class_order
    if isinstance(order, str) and order not in ORDERS:
        classes = _read_order(order, folder)
        return {"class_order": classes, **found_keys(replace(benchmark, class_order="file"), folder)}
    if benchmark.is_settled:
        return {}
    found = load_dataset(benchmark, folder)
    keys = {"num_classes": found.num_classes, "shape": list(found.image_shape)}
    if not benchmark.has_own_tasks:
        return keys
    most = max(task.num_classes for task in found.parts)
    return {**keys, "num_classes": most, "num_tasks": benchmark.num_tasks or len(found.parts)}


def _read_order(name: str, folder: Path | None) -> list[int]:
    """Return the classes that a file lists, as JSON or as numbers between spaces, commas or lines."""
    places = [Path(name)] if folder is None else [folder / name, Path(name)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        looked = " nor ".join(str(place.absolute()) for place in dict.fromkeys(places))
        raise DataError(f"benchmark.class_order {name}: found no {looked}")
    try:
        if path.stat().st_size > MAX_ORDER_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MAX_ORDER_BYTES:,}")
        text = path.read_text()
        classes = (
            json.loads(text)
            if path.suffix == ".json"
            else [int(one) for one in text.replace(",", " ").split()]
        )
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); expected a list of classes") from error
    is_list = isinstance(classes, list) and all(
        type(one) is int and 0 <= one < MAX_CLASSES for one in classes
    )
    if not is_list:
        raise DataError(f"{path}: found something else than a list of classes, such as [3, 1, 0, 2]")
    return classes
