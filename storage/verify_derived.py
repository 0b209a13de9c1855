"""Verify every file of a run folder that is made from its masks, or kept until they are made.

Nothing here is lost for good: tables, summaries and banks are made again, checkpoints trained again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFileError, StaleFileError
from core.masks.bits import packed_num_bytes
from storage.bank_file import map_bank
from storage.checkpoints import DIGEST_LETTERS
from storage.decisions import read_decisions
from storage.files import KEY, read_header, read_sealed
from storage.layout import TableKey, temporary_writer
from storage.locations import Location, listed, plain_file
from storage.mask_facts import MaskFacts
from storage.mask_store import MaskStore
from storage.matrix_file import check_matrix
from storage.stream_state import read_mask_state, read_position
from storage.summary import read_summary
from storage.tables import check_masks, check_name, read_derived, read_evaluation
from storage.verify import Problem


@dataclass(frozen=True)
class DerivedFiles:
    """The files of one run. facts: of its masks. masks: of the tables of each k, as for ``read_derived``."""

    store: MaskStore
    facts: MaskFacts
    masks: Callable[[int], str | None]

    def problems(self) -> list[Problem]:
        """Read every file and return what is wrong: damaged, stale, or old (from before files named their masks)."""
        layout, checks = self.store.layout, list[tuple[Location, Callable[[Location], object]]]()
        checks += [(path, self._table) for path in _files(layout.evaluations)]
        parts = [path for folder in listed(layout.evaluations / "parts") for path in _files(folder)]
        checks += [(path, self._part) for path in parts]
        checks += [(path, self._confusion) for path in listed(layout.report, "confusion-*.parquet")]
        checks += [(path, self._matrix) for path in listed(layout.report, "matrix-*.parquet")]
        checks += [(path, self._tasks) for path in (layout.tasks,) if path.exists()]
        checks += [(path, self._facts) for path in (layout.facts,) if path.exists()]
        checks += [(path, self._summary) for path in (layout.summary,) if path.exists()]
        checks += [(path, self._bank) for path in listed(layout.banks, "*.npy")]
        for folder in (layout.saves, layout.baseline, layout.transfer):
            checks += [(path, _checkpoint) for path in _files(folder)]
        checks += [(path, self._decisions) for path in (layout.decisions,) if path.exists()]
        checks += [(path, self._stream_state) for path in (layout.stream_state,) if path.exists()]
        records = (layout.failures, layout.sessions, layout.system)
        checks += [(path, _json) for path in records if path.exists()]
        return [problem for path, check in checks for problem in _problems(path, check)]

    def stale(self) -> list[Problem]:
        """Return the tables and summaries that were made from other masks, by their headers alone."""
        layout, checks = self.store.layout, list[tuple[Location, Callable[[Location], object]]]()
        checks += [(path, self._header) for path in _files(layout.evaluations)]
        checks += [(path, self._summary) for path in (layout.summary,) if path.exists()]
        return [problem for path, check in checks for problem in _problems(path, check)]

    def _header(self, path: Location) -> None:
        key, metadata = TableKey.parse(path.stem), read_header(path)
        if key is None or metadata.get("supsup.fingerprint") != self.store.identity.fingerprint:
            raise DamagedFileError(f"{path} is no evaluation table of this run")
        check_name(path, metadata)
        check_masks(path, metadata, self.masks(key.k))

    def _facts(self, path: Location) -> None:
        read_sealed(path)
        noted = self.store.facts()
        if noted.num_read == 0 and not noted.table.equals(self.facts.table):
            raise StaleFileError(
                f"{path} does not say what the mask files say; delete it, and it will be made again"
            )

    def _table(self, path: Location) -> None:
        key = TableKey.parse(path.stem)
        if key is None or path.suffix != ".parquet":
            raise DamagedFileError(f"{path} is no evaluation table (by its name)")
        read_evaluation(path, self.store.identity.fingerprint, self.masks(key.k))

    def _part(self, path: Location) -> None:
        key = TableKey.parse(path.parent.name)
        read_evaluation(path, self.store.identity.fingerprint, self.masks(0 if key is None else key.k))

    def _confusion(self, path: Location) -> None:
        key = TableKey.parse(path.stem.removeprefix("confusion-"))
        read_derived(path, self.masks(0 if key is None else key.k))

    def _matrix(self, path: Location) -> None:
        check_matrix(path, self.store.layout, self.store.identity.fingerprint, self.masks)

    def _tasks(self, path: Location) -> None:
        digests = self.facts.digests
        table, metadata = read_sealed(path)
        is_all = len(table) == digests.num_masks
        check_masks(path, metadata, digests.joint(len(digests.leading)) if is_all else None)

    def _summary(self, path: Location) -> None:
        for k, found in read_summary(path)[1].items():
            masks = self.masks(int(k))
            if masks is not None and found != masks:
                raise StaleFileError(f"{path}: its numbers at k = {k} were measured on other masks")

    def _bank(self, path: Location) -> None:
        assert isinstance(path, Path), "banks are on the local disk"
        map_bank(path, packed_num_bytes(self.store.identity.shapes))

    def _decisions(self, _: Location) -> None:
        read_decisions(self.store.layout, self.store.identity.fingerprint)

    def _stream_state(self, _: Location) -> None:
        position = read_position(self.store.layout, self.store.identity.fingerprint)
        for file in () if position is None else position.files:
            read_mask_state(self.store.layout, file)


def _files(folder: Location) -> list[Location]:
    return [path for path in listed(folder) if path.is_file() and temporary_writer(path.name) is None]


def _problems(path: Location, check: Callable[[Location], object]) -> Iterator[Problem]:
    try:
        check(path)
    except StaleFileError as error:
        if path.suffix == ".parquet" and KEY not in read_sealed(path)[1]:
            message = f"{path} is of an older version, which did not note its masks"
            yield Problem(kind="old", path=path, message=message)
        else:
            yield Problem(kind="stale", path=path, message=str(error))
    except DamagedFileError as error:
        yield Problem(kind="damaged", path=path, message=str(error))


def _checkpoint(path: Location) -> None:
    if not path.stem.endswith(hashlib.sha256(plain_file(path).read_bytes()).hexdigest()[:DIGEST_LETTERS]):
        raise DamagedFileError(f"{path}: its bytes do not match the digest in its name")


def _json(path: Location) -> None:
    try:
        json.loads(plain_file(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not JSON ({error})") from error
