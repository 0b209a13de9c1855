"""What `plan` says about a sweep's images of the user's own before anything runs."""

from core.data.datasets import Dataset, load_dataset
from core.errors import DataError
from orchestrator.config.own_data import data_folder
from orchestrator.config.sweep import SweepConfig
from orchestrator.report.text import left_out_words


def data_note(config: SweepConfig) -> str | None:
    """Return what a run would find wrong with the user's own images, or what there is of them; None for other data."""
    benchmark = config.benchmark
    if not benchmark.is_own and benchmark.dataset != "image_folder":
        return None
    try:
        dataset = load_dataset(benchmark, data_folder(config.data_dir))
    except DataError as error:
        return f"a run would stop here: {error}"
    return _counted(dataset) if benchmark.is_own else left_out_words(dataset.left_out)


def _counted(dataset: Dataset) -> str:
    sides = " x ".join(map(str, dataset.image_shape))
    num_train, num_test = len(dataset.train_labels), len(dataset.test_labels)
    return f"{dataset.name}: {dataset.num_classes} classes, {num_train:,} training and {num_test:,} test images of {sides}"
