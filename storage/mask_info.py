"""Information on stored masks, without their bits: for tables, figures and trackers."""

from collections.abc import Collection
from dataclasses import dataclass

from core.errors import DamagedFileError, ForeignFileError
from storage.locations import Location
from storage.mask_store import MaskStore


@dataclass(frozen=True, kw_only=True)
class MaskInfo:
    """One stored mask. Fractions in [0, 1], loss in nats, Unix times in seconds.

    num_bytes: size of the mask as stored, compressed. encoding: bits or gaps. num_norm_bytes: size of
    its running statistics. file: the file's name. worker: host and process that trained the mask.
    started_s, finished_s: start and end of the training of its whole cohort.
    """

    task: int
    digest: str
    density: float
    test_accuracy: float
    train_loss: float
    train_seconds: float
    num_bytes: int
    encoding: str
    num_norm_bytes: int
    file: str
    worker: str
    started_s: float
    finished_s: float


def mask_info(store: MaskStore, tasks: Collection[int] | None = None) -> list[MaskInfo]:
    """Return the masks of ``tasks`` (default: all), by task, leaving out damaged and missing ones."""
    locations = {task: path for task, path in store.locate().items() if tasks is None or task in tasks}
    found: list[MaskInfo] = []
    for path in dict.fromkeys(locations.values()):
        try:
            found += [info for info in _file_info(store, path) if locations.get(info.task) == path]
        except (DamagedFileError, ForeignFileError):
            continue  # `verify` reports it
    return sorted(found, key=lambda info: info.task)


def _file_info(store: MaskStore, path: Location) -> list[MaskInfo]:
    rows, made = store.file_info(path)
    try:
        finished_s = float(made["finished_s"])
        started_s = float(made.get("started_s", finished_s - sum(row["train_seconds"] for row in rows)))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path}: its provenance does not say when it was made") from error
    worker = f"{made.get('host', 'unknown')}-{made.get('process_id', 0)}"
    return [
        MaskInfo(**row, file=path.name, worker=worker, started_s=started_s, finished_s=finished_s)
        for row in rows
    ]
