"""A store of shared banks, in a folder or an object store: objects named by their content, and a manifest for each run.

    objects/<sha256>     the bytes of a file, whatever its name
    runs/<name>.json     the files of a run, by name, digest and size
    locks/<name>/.lock   held by who pushes this run

The manifest is written last, after all of its objects, so whoever is killed while pushing leaves the bank as it was.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from core.errors import DamagedFileError, RunFolderError
from storage.files import commit_bytes
from storage.json_file import STRICT, read_json
from storage.layout import RunLayout
from storage.locations import Location, entries, listed, plain_file

MANIFEST_VERSION = 1
_PATH = re.compile(
    r"run\.json|BANK\.md|bank\.sig|masks/(cohort-\d+-\d+\.parquet|forgotten-\d+\.json)|report/summary\.json"
    r"|(evaluations|hopfield)/[A-Za-z0-9][\w.-]*\.parquet|stream/decisions\.parquet"
)
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class SharedFile:
    """A file of a run. path: in the run folder, with slashes. sha256: hex, of its bytes."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    path: str
    sha256: str
    num_bytes: int

    def __post_init__(self) -> None:
        """Raise ValueError for a path outside of a run folder, or a digest that is none."""
        if not _PATH.fullmatch(self.path) or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"found {self.path!r} with {self.sha256!r}, expected a file of a run and its sha256"
            )

    @classmethod
    def of(cls, path: str, content: bytes) -> "SharedFile":
        """Return the entry of a file with this content."""
        return cls(path=path, sha256=hashlib.sha256(content).hexdigest(), num_bytes=len(content))

    def within(self, root: Location) -> Location:
        """Return the file's location in a run folder."""
        for name in self.path.split("/"):
            root /= name
        return root


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All files of a run, sorted by path."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    run: str
    fingerprint: str
    files: tuple[SharedFile, ...]
    format_version: int = MANIFEST_VERSION

    def to_bytes(self) -> bytes:
        """Return the content of its file: JSON, a line for each file of the run."""
        head = {key: value for key, value in asdict(self).items() if key != "files"}
        rows = ",\n".join(json.dumps(asdict(file), sort_keys=True) for file in self.files)
        return f'{json.dumps(head, sort_keys=True)[:-1]}, "files": [\n{rows}\n]}}\n'.encode()

    @property
    def names(self) -> frozenset[str]:
        """The names of the mask files and tombstones."""
        return frozenset(f.path.partition("/")[2] for f in self.files if f.path.startswith("masks/"))


@dataclass(frozen=True)
class SharedStore:
    """The store at ``root``. Its methods raise OSError, mostly StoreError, if it does not answer."""

    root: Location

    @property
    def objects(self) -> Location:
        """Folder of the objects."""
        return self.root / "objects"

    def manifest_path(self, run: str) -> Location:
        """Return where the manifest of a run is."""
        return self.root / "runs" / f"{run}.json"

    def lock(self, run: str) -> RunLayout:
        """Return the layout whose lock is held while a run is pushed."""
        return RunLayout(self.root / "locks" / run)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size of each object, by its name, when first asked: one listing."""
        return {entry.name: entry.num_bytes for entry in entries(self.objects)}

    def has(self, file: SharedFile) -> bool:
        """Return whether the object of a file is there, by name and size."""
        return self.sizes.get(file.sha256) == file.num_bytes

    def put(self, file: SharedFile, content: bytes) -> None:
        """Store the object of a file."""
        commit_bytes(self.objects / file.sha256, content)
        self.sizes[file.sha256] = file.num_bytes

    def get(self, file: SharedFile) -> bytes:
        """Return the content of a file. Raises DamagedFileError if its object is missing or has other bytes."""
        path = self.objects / file.sha256
        try:
            content = plain_file(path).read_bytes()
        except FileNotFoundError as error:
            raise DamagedFileError(
                f"{path} is missing, which should be {file.path}; pull again, or have it pushed again"
            ) from error
        if SharedFile.of(file.path, content) != file:
            raise DamagedFileError(
                f"{path} is damaged: its bytes do not have the digest in its name; remove it, and have {file.path} "
                "pushed again"
            )
        return content

    def runs(self) -> list[str]:
        """Return the names of the runs, sorted."""
        return [path.stem for path in listed(self.root / "runs", "*.json")]

    def manifest(self, run: str) -> Manifest | None:
        """Return the manifest of a run, None without one. Raises DamagedFileError, or RunFolderError for its version."""
        if not _RUN.fullmatch(run) or not self.manifest_path(run).exists():
            return None
        found = read_json(self.manifest_path(run), Manifest)
        if found.format_version != MANIFEST_VERSION:
            raise RunFolderError(
                f"{self.manifest_path(run)} has format_version {found.format_version}, but this version of supsup reads "
                f"{MANIFEST_VERSION}"
            )
        return found

    def remove_unnamed(self, files: tuple[SharedFile, ...]) -> int:
        """Remove the objects of files that no manifest names any more; return how many."""
        named = {file.sha256 for file in self._named()}
        unnamed = {file.sha256 for file in files} - named
        for sha256 in unnamed:
            (self.objects / sha256).unlink(missing_ok=True)
        return len(unnamed)

    def _named(self) -> Iterator[SharedFile]:
        for run in self.runs():
            manifest = self.manifest(run)
            yield from () if manifest is None else manifest.files
