"""What `plan` says about a sweep's folder of images before anything runs."""

from core.data.datasets import load_dataset
from core.errors import DataError
from orchestrator.cli.common import data_folder
from orchestrator.config.sweep import SweepConfig
from orchestrator.report.text import left_out_words


def data_note(config: SweepConfig) -> str | None:
    """Return what is wrong with the images of a sweep, or left out of them; None if nothing, or no folder."""
    if config.benchmark.dataset != "image_folder":
        return None
    try:
        dataset = load_dataset(config.benchmark, data_folder(config.data_dir))
    except DataError as error:
        return f"a run would stop here: {error}"
    return left_out_words(dataset.left_out)
