"""Reads the masks' digests of a shared bank where its files differ from those of a run folder."""

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import DamagedFileError, first_line
from orchestrator.runs.run import Run
from storage.layout import cohort_range
from storage.locations import plain_file
from storage.mask_facts import MaskFacts
from storage.shared import Manifest, SharedFile, SharedStore


def other_masks(run: Run, facts: MaskFacts, store: SharedStore, manifest: Manifest) -> dict[int, str]:
    """Return the digests that the store has of tasks whose masks in the run folder are others.

    facts: of the run folder. Raises DamagedFileError.
    """
    theirs, ours = _remote_digests(run, store, manifest), facts.digest_of
    return {task: digest for task, digest in theirs.items() if ours.get(task, digest) != digest}


def _remote_digests(run: Run, store: SharedStore, manifest: Manifest) -> dict[int, str]:
    """Return the digest of each mask in mask files of the store that the run folder does not have as they are."""
    found: dict[int, str] = {}
    for file in manifest.files:
        is_masks = cohort_range(file.path.removeprefix("masks/")) is not None
        if is_masks and not _is_here(run, file):
            found = {**_digests(file, store.get(file)), **found}
    return found


def _is_here(run: Run, file: SharedFile) -> bool:
    path = file.within(run.layout.root)
    return path.exists() and SharedFile.of(file.path, plain_file(path).read_bytes()) == file


def _digests(file: SharedFile, content: bytes) -> dict[int, str]:
    try:
        table = pq.read_table(pa.BufferReader(content), columns=["task", "digest"])
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(
            f"{file.path} in the store cannot be read: {first_line(error)[:160]}"
        ) from error
    return dict(zip(table["task"].to_pylist(), table["digest"].to_pylist(), strict=True))
