"""Changes of a folder: of its files' bytes, JSON values, names and kinds, by files of its own or of another run."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.edits import EDITS, REMOVED, VALUES, Edit, edited, json_text, paths_of, replaced


@dataclass(frozen=True)
class Change:
    """One change. path: of a file in the folder, to which everything else applies."""

    path: str

    def apply(self, root: Path) -> None:
        """Change the folder; do nothing where an earlier change has left nothing to change."""
        target = root / self.path
        if target.is_file() and not target.is_symlink():
            self.change(target, root)

    def change(self, target: Path, root: Path) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class EditBytes(Change):
    edits: list[Edit]

    def change(self, target: Path, root: Path) -> None:
        target.write_bytes(edited(target.read_bytes(), self.edits))


@dataclass(frozen=True)
class EditJson(Change):
    """Another value at the place ``where``, a fraction of all places, or none."""

    where: float
    value: Any

    def change(self, target: Path, root: Path) -> None:
        content = json.loads(target.read_text()) if target.suffix == ".json" else None
        if content is not None:
            places = paths_of(content)
            place = places[int(self.where * len(places))]
            target.write_bytes(json_text(replaced(content, place, self.value)))


@dataclass(frozen=True)
class Delete(Change):
    whole_folder: bool

    def change(self, target: Path, root: Path) -> None:
        if self.whole_folder and target.parent != root:
            shutil.rmtree(target.parent)
        else:
            target.unlink()


@dataclass(frozen=True)
class Swap(Change):
    other: str

    def change(self, target: Path, root: Path) -> None:
        other = root / self.other
        if other.is_file():
            mine, its = target.read_bytes(), other.read_bytes()
            target.write_bytes(its)
            other.write_bytes(mine)


@dataclass(frozen=True)
class Rename(Change):
    name: str

    def change(self, target: Path, root: Path) -> None:
        if not (target.parent / self.name).is_dir():
            target.rename(target.parent / self.name)


@dataclass(frozen=True)
class Copy(Change):
    """A copy under another name, or in another folder."""

    name: str

    def change(self, target: Path, root: Path) -> None:
        copy = target.parent / self.name
        if not copy.is_dir() and self.name != target.name:
            copy.write_bytes(target.read_bytes())


@dataclass(frozen=True)
class Foreign(Change):
    """A file of another run in its place."""

    source: str

    def change(self, target: Path, root: Path) -> None:
        shutil.copy(self.source, target)


@dataclass(frozen=True)
class Become(Change):
    """Something else than a file in its place, or in place of its folder."""

    kind: str
    whole_folder: bool

    def change(self, target: Path, root: Path) -> None:
        target = target.parent if self.whole_folder and target.parent != root else target
        aside = root.parent / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        aside.unlink(missing_ok=True)
        target.rename(aside)
        self._make(target, aside)

    def _make(self, target: Path, aside: Path) -> None:
        if self.kind == "pipe":
            os.mkfifo(target)
        elif self.kind == "folder":
            target.mkdir()
        elif self.kind == "file":
            target.write_bytes(b"")
        elif self.kind == "locked":
            aside.rename(target)
            target.chmod(0)
        else:
            links = {
                "aside": aside,
                "nothing": "/nowhere/x",
                "loop": target.name,
                "null": "/dev/null",
                "up": "..",
            }
            target.symlink_to(links[self.kind])


KINDS = ("pipe", "folder", "file", "locked", "aside", "nothing", "loop", "null", "up")
NAMES = (
    "cohort-00000-00000.parquet",
    "cohort-00001-00000.parquet",
    "cohort-00000-9999999.parquet",
    "cohort-00002-00005.parquet",
    "GG-9.parquet",
    "GNu-one_shot-G-1-4-b0.parquet",
    "-4.parquet",
    "x-99999999999999999999.parquet",
    "confusion-9.parquet",
    "masks-00004-00000000.npy",
    "state.json",
    "a\nb.json",
    "\udcff.parquet",
    "[red]x",
    "n" * 250,
    ".run.json.host.1.00000000.tmp",
)


def changes(files: Sequence[str], foreign: Sequence[Path]) -> st.SearchStrategy[list[Change]]:
    """Return one to three changes of a folder with these files. foreign: files of other runs."""
    paths, records = (
        st.sampled_from(files),
        st.sampled_from([name for name in files if name.endswith(".json")]),
    )
    names = st.sampled_from([*NAMES, *sorted({Path(file).name for file in files})])
    edits = st.builds(EditBytes, paths, EDITS)
    values = st.builds(EditJson, records, st.floats(0, 1, exclude_max=True), VALUES | st.just(REMOVED))
    others = st.one_of(
        st.builds(Delete, paths, st.booleans()),
        st.builds(Swap, paths, paths),
        st.builds(Rename, paths, names),
        st.builds(Copy, paths, names),
        st.builds(Foreign, paths, st.sampled_from(list(map(str, foreign)))),
        st.builds(Become, paths, st.sampled_from(KINDS), st.booleans()),
    )
    return st.lists(edits | values | others, min_size=1, max_size=3)
