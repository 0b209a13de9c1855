"""The data set of a run: loaded for a run folder, and recorded there by digest with the code that made it."""

from pathlib import Path
from typing import Any

from core.data.datasets import Dataset, load_dataset
from core.errors import RunFolderError
from core.own_code.files import code_digest
from core.own_code.permission import ANY_CODE, permission, require_allowed
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import Run, require_stored_code
from storage.layout import RunLayout
from storage.run_file import RunRecord, read_run

NETWORK = "network.import_path"


def run_dataset(run: Run, record: RunRecord, folder: Path | None) -> Dataset:
    """Load the data set of a run folder. folder: where the user keeps data sets.

    Raises DataError, ConfigError, and RunFolderError if it is other data than the run was made on.
    """
    require_data_code(run, record)
    dataset = load_dataset(run.config.benchmark, folder)
    check_dataset(run.layout, record, dataset, is_growing=run.config.benchmark.kind == "files")
    return dataset


def require_data_code(run: Run, record: RunRecord) -> None:
    """Raise ConfigError or RunFolderError unless the code that makes the run's data may be imported: nothing is.

    Code that is allowed by its path may have been edited: the digest of its data decides.
    """
    for code in run.config.benchmark.own_code:
        if permission() == ANY_CODE:
            require_stored_code(code, [recorded_code(record).get(code.key)], run.layout.run_file)
        else:
            require_allowed(code)


def require_method_code(run: Run) -> None:
    """Raise ConfigError or RunFolderError unless the run's own baseline may be imported: nothing is."""
    code = None if run.config.baseline is None else run.config.baseline.own_code
    if code is None:
        return
    require_allowed(code)
    if run.layout.run_file.exists():
        require_stored_code(code, [recorded_code(read_run(run.layout)).get(code.key)], run.layout.run_file)


def recorded_code(record: RunRecord) -> dict[str, str]:
    """Return the digest of each piece of the user's own code that a run was made with, by its key in the sweep."""
    found, network = record.provenance.get("code"), record.network.get("code")
    codes = found if isinstance(found, dict) else {}
    known = {**codes, **({} if network is None else {NETWORK: network})}
    return {str(key): digest for key, digest in known.items() if isinstance(digest, str)}


def data_provenance(config: SweepConfig, dataset: Dataset) -> dict[str, Any]:
    """Return what a run's record says of its data, and of the user's own code beside the network: their digests."""
    spec = config.run_spec()
    codes = {code.key: code_digest(code) for code in spec.own_code if code != spec.network.own_code}
    parts = list(dataset.part_digests)
    return {
        "dataset_digest": dataset.digest(),
        **({"part_digests": parts} if parts else {}),
        **({"code": codes} if codes else {}),
    }


def check_dataset(layout: RunLayout, record: RunRecord, dataset: Dataset, *, is_growing: bool) -> None:
    """Raise RunFolderError if a run was made on other data than ``dataset``, of which either may have more tasks."""
    before = record.provenance.get("part_digests")
    if is_growing and isinstance(before, list):
        num_both = min(len(before), len(dataset.part_digests))
        changed = [number for number in range(num_both) if before[number] != dataset.part_digests[number]]
        if changed:
            raise RunFolderError(
                f"{layout.run_file}: task {changed[0]} was made from other data than those now in {dataset.name}; put its "
                "file back, and add files with names that come after the others"
            )
        return
    made_on = record.provenance.get("dataset_digest")  # absent from runs of older versions
    found = dataset.digest() if made_on is not None else None
    if found != made_on:
        raise RunFolderError(
            f"{layout.run_file}: was made with {dataset.name} of digest {str(made_on)[:16]}..., but the data here "
            f"{_differing(record, dataset)}have {str(found)[:16]}...; use the same data, or another storage.uri"
        )


def _differing(record: RunRecord, dataset: Dataset) -> str:
    """Return which parts of a sequence differ, as words."""
    before = record.provenance.get("part_digests")
    if not isinstance(before, list) or len(before) != len(dataset.part_digests):
        return ""
    pairs = enumerate(zip(before, dataset.part_digests, strict=True))
    changed = [str(number) for number, (old, new) in pairs if old != new]
    return f"differ in part {', '.join(changed[:8])} and " if changed else ""
