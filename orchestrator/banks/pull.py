"""``supsup pull``: a bank from a shared store into a run folder, new or of the same run. Each file is verified first."""

import json
from dataclasses import dataclass

from core.errors import DamagedFileError, ForeignFileError, RunFolderError
from orchestrator.banks.remote import other_masks
from orchestrator.execution.plan import number_ranges
from orchestrator.execution.progress import Display
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.lock import locked
from orchestrator.runs.run import open_run
from storage.files import commit_bytes
from storage.layout import RunLayout, cohort_range
from storage.locations import Location, location_uri, plain_file
from storage.mask_copy import tasks_of
from storage.mask_files import MaskFiles
from storage.mask_store import MaskStore
from storage.run_file import read_run
from storage.shared import Manifest, SharedFile, SharedStore

RECORD, LAST = "run.json", ("report/summary.json", "BANK.md", "bank.sig")


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """root: the run folder. num_tasks: with a mask there now. num_fetched, fetched_bytes: files that were not there.

    waiting: tasks that are forgotten in the store, and still have a mask here.
    """

    root: Location
    num_tasks: int
    num_fetched: int
    fetched_bytes: int
    waiting: tuple[int, ...]


def pull_run(name: str, source: Location, storage: Location, display: Display) -> Pulled:
    """Fetch the bank of a run into its folder under ``storage``; a killed pull is finished by the same call.

    Raises RunFolderError, also where tasks have other masks here, and DamagedFileError for a damaged object: files
    that were verified before it stay.
    """
    store = SharedStore(source)
    manifest = store.manifest(name)
    if manifest is None:
        known = ", ".join(store.runs()) or "none"
        raise RunFolderError(f"RUN {name!r}: no such bank in {source}; banks there: {known}")
    layout = RunLayout(storage / name)
    if layout.run_file.exists():
        _require_same(layout, store, manifest)
    with locked(layout), display.doing(f"fetching {name}"):
        fetched = [file for file in _ordered(manifest) if _is_wanted(layout, store, file)]
        for file in fetched:
            commit_bytes(file.within(layout.root), store.get(file))
        run, _ = open_run(layout.root)
        files = run.store.locate()
    return Pulled(
        root=layout.root,
        num_tasks=len(files),
        num_fetched=len(fetched),
        fetched_bytes=sum(file.num_bytes for file in fetched),
        waiting=tuple(sorted(_held(files))),
    )


def _require_same(layout: RunLayout, store: SharedStore, manifest: Manifest) -> None:
    """Raise RunFolderError unless the folder is of the same run, and its masks agree with those in the store."""
    run, _ = open_run(layout.root)
    if run.fingerprint != manifest.fingerprint:
        raise RunFolderError(f"{layout.root} is another run than the one in {store.root}")
    here, there = run.store.locate(), MaskFiles.of_names(store.root, manifest.names)
    back = here.forgotten & set(there)
    if back:
        raise RunFolderError(
            f"{store.root} still has tasks {number_ranges(back)}, which {layout.root} has forgotten; "
            f"`{supsup_command('push', layout.root, location_uri(store.root))}` takes them from there"
        )
    wrong = other_masks(run, run.store.facts(), store, manifest)
    if wrong:
        raise RunFolderError(
            f"{layout.root} has other masks of tasks {number_ranges(wrong)} than {store.root}; pull into another --storage"
        )


def _ordered(manifest: Manifest) -> list[SharedFile]:
    """Return the files in the order of writing: the record before the masks, what is made from them last."""
    return sorted(manifest.files, key=lambda file: (file.path in LAST, file.path != RECORD, file.path))


def _is_wanted(layout: RunLayout, store: SharedStore, file: SharedFile) -> bool:
    """Return whether a file is to be fetched: it is not here, or damaged, or the store's has grown or was made later."""
    path = file.within(layout.root)
    if not path.exists():
        return True
    if SharedFile.of(file.path, plain_file(path).read_bytes()) == file:
        return False
    if file.path == RECORD:
        return int(json.loads(store.get(file))["num_tasks"]) > read_run(layout).num_tasks
    return cohort_range(path.name) is None or not _is_good(layout, path)


def _is_good(layout: RunLayout, path: Location) -> bool:
    """Return whether a mask file verifies; its masks are then those in the store, as was compared before."""
    try:
        MaskStore(layout, read_run(layout).identity()).check(path)
    except (DamagedFileError, ForeignFileError):
        return False
    return True


def _held(files: MaskFiles) -> set[int]:
    """Return the forgotten tasks whose mask is still in a file."""
    return {task for name in files.names for task in tasks_of(name)} & files.forgotten
