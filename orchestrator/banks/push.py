"""``supsup push``: a bank into a shared store. What is there already, by its content, is not sent again."""

from dataclasses import dataclass

from core.errors import RunFolderError
from orchestrator.banks.card import write_card
from orchestrator.banks.content import bank_files, verified_bank
from orchestrator.banks.remote import other_masks
from orchestrator.execution.plan import number_ranges
from orchestrator.execution.progress import Display
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.lock import locked
from orchestrator.runs.run import Run, open_run
from storage.files import commit_bytes
from storage.locations import Location, location_uri, plain_file
from storage.mask_facts import MaskFacts
from storage.mask_files import MaskFiles
from storage.shared import Manifest, SharedFile, SharedStore


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """manifest: where the bank is named. num_files, num_bytes: of the whole bank. num_sent, sent_bytes: objects sent.

    manifest_bytes: sent as well, 0 if nothing changed. num_removed: objects that no bank names any more.
    """

    manifest: Location
    num_files: int
    num_bytes: int
    num_sent: int
    sent_bytes: int
    manifest_bytes: int
    num_removed: int


def push_run(root: Location, to: Location, display: Display) -> Pushed:
    """Push a run to the store at ``to``, after verifying it. Raises RunFolderError; nothing is sent then.

    A bank there that has tasks which this one neither has nor forgot, or other masks of the same tasks, is refused.
    """
    run, record = open_run(root)
    store = SharedStore(to)
    with locked(run.layout), locked(store.lock(run.name)):
        with display.doing("verifying the masks"):
            facts = verified_bank(run)
        before = store.manifest(run.name)
        if before is not None:
            _require_grown(run, facts, store, before)
        write_card(run, record, facts)
        with display.doing(f"sending {run.name}"):
            return _send(run, facts, store, before)


def _require_grown(run: Run, facts: MaskFacts, store: SharedStore, before: Manifest) -> None:
    """Raise RunFolderError unless this bank has all that the one in the store has."""
    if before.fingerprint != run.fingerprint:
        raise RunFolderError(f"{store.manifest_path(run.name)} is another run, {before.fingerprint[:16]}...")
    there, here = MaskFiles.of_names(store.root, before.names), facts.files
    lacking = {*there, *there.forgotten} - {*here, *here.forgotten}
    if lacking:
        raise RunFolderError(
            f"{store.root} has tasks that {run.layout.root} lacks: {number_ranges(lacking)}; `{_pull_command(run, store)}` "
            "brings them"
        )
    if not there.forgotten <= here.forgotten:
        raise RunFolderError(
            f"{store.root} has forgotten tasks {number_ranges(there.forgotten - here.forgotten)}, which "
            f"{run.layout.root} has; `{_pull_command(run, store)}` says how to forget them here"
        )
    _require_same(run, facts, store, before)


def _pull_command(run: Run, store: SharedStore) -> str:
    home = run.layout.root.parent
    return supsup_command("pull", run.name, location_uri(store.root), "--storage", location_uri(home))


def _require_same(run: Run, facts: MaskFacts, store: SharedStore, before: Manifest) -> None:
    """Raise RunFolderError if a task has another mask in the store. Only files that differ are looked into."""
    wrong = other_masks(run, facts, store, before)
    if wrong:
        raise RunFolderError(
            f"{store.root} has other masks of tasks {number_ranges(wrong)} than {run.layout.root}; of task "
            f"{min(wrong)}: {wrong[min(wrong)][:16]}..., here {facts.digest_of[min(wrong)][:16]}..."
        )


def _send(run: Run, facts: MaskFacts, store: SharedStore, before: Manifest | None) -> Pushed:
    """Send the objects that are not there, then the manifest; remove what only the one before named."""
    files, num_sent, sent_bytes = list[SharedFile](), 0, 0
    for path, source in bank_files(run, facts).items():
        content = plain_file(source).read_bytes()
        file = SharedFile.of(path, content)
        files.append(file)
        if not store.has(file):
            store.put(file, content)
            num_sent, sent_bytes = num_sent + 1, sent_bytes + len(content)
    manifest = Manifest(run=run.name, fingerprint=run.fingerprint, files=tuple(files))
    written = _write(store, manifest) if manifest != before else 0
    return Pushed(
        manifest=store.manifest_path(run.name),
        num_files=len(files),
        num_bytes=sum(file.num_bytes for file in files),
        num_sent=num_sent,
        sent_bytes=sent_bytes,
        manifest_bytes=written,
        num_removed=0 if before is None else store.remove_unnamed(before.files),
    )


def _write(store: SharedStore, manifest: Manifest) -> int:
    content = manifest.to_bytes()
    commit_bytes(store.manifest_path(manifest.run), content)
    return len(content)
