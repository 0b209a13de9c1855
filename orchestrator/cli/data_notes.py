"""What `plan` says about a sweep's images of the user's own before anything runs."""

from collections.abc import Iterator

from core.data.datasets import Dataset, load_dataset
from core.errors import DataError
from core.specs.benchmark import BenchmarkSpec
from orchestrator.config.own_data import data_folder
from orchestrator.config.sweep import SweepConfig
from orchestrator.report.text import left_out_words

MAX_SHOWN = 12  # tasks


def data_note(config: SweepConfig) -> str | None:
    """Return what a run would find wrong with the user's own images, or what there is of them; None for other data."""
    benchmark = config.benchmark
    is_own = benchmark.is_own or benchmark.parts is not None
    if not is_own and benchmark.dataset != "image_folder":
        return None
    try:
        dataset = load_dataset(benchmark, data_folder(config.data_dir))
    except DataError as error:
        return f"a run would stop here: {error}"
    if dataset.parts:
        lines = _part_lines(benchmark, dataset) if benchmark.parts is not None else _task_lines(dataset)
        return "\n".join([_counted(dataset), *lines])
    return _counted(dataset) if benchmark.is_own else left_out_words(dataset.left_out)


def _counted(dataset: Dataset) -> str:
    sides = " x ".join(map(str, dataset.image_shape))
    num_train, num_test = len(dataset.train_labels), len(dataset.test_labels)
    return f"{dataset.name}: {dataset.num_classes} classes, {num_train:,} training and {num_test:,} test images of {sides}"


def _task_lines(dataset: Dataset) -> Iterator[str]:
    """Yield the tasks of a module, of many only the first."""
    for task, rows in enumerate(dataset.parts):
        if task == MAX_SHOWN:
            yield f"  and {len(dataset.parts) - task:,} more tasks"
            return
        train, test = rows.train.stop - rows.train.start, rows.test.stop - rows.test.start
        yield f"  task {task}: {rows.num_classes} classes, {train:,} training and {test:,} test images"


def _part_lines(benchmark: BenchmarkSpec, dataset: Dataset) -> Iterator[str]:
    first = 0
    for part, rows in zip(benchmark.part_benchmarks, dataset.parts, strict=True):
        train, test = rows.train.stop - rows.train.start, rows.test.stop - rows.test.start
        end = first + part.num_tasks
        yield (
            f"  tasks {first} to {end - 1}: {part.dataset}, {part.kind}, {part.real_classes} classes each, from "
            f"{train:,} training and {test:,} test images"
        )
        first = end
