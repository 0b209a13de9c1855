"""Folders of images with any names, links and kinds of entries: the images found are those there, or an error of ours."""

import contextlib
import io
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from core.data.image_folder import decode_test, decode_train, find_images
from core.errors import DataError
from tests.conftest import sweep_text
from tests.fuzz.command import told
from tests.fuzz.edits import EDITS, Edit, edited
from tests.fuzz.explore import explore

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]
SIDE = 16
CLASSES = ("dark", "light")
BENCHMARK = "{{kind: split, dataset: image_folder, folder: made, num_classes: 2, classes_per_task: 2, num_tasks: 1, image_size: {side}}}"


def png(level: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.full((9, 12, 3), level, dtype=np.uint8)).save(target, format="PNG")
    return target.getvalue()


@dataclass(frozen=True)
class Entry:
    """Something in a class's folder, or beside it. name: as the system gives it. where: train or val, class or none."""

    where: str
    name: bytes
    kind: str
    edits: list[Edit]

    def make(self, root: Path) -> None:
        """Put it there; do nothing where the name is taken."""
        path = root / self.where / os.fsdecode(self.name)
        if not os.path.lexists(path):
            self._make(path)

    def _make(self, path: Path) -> None:
        if self.kind == "image":
            path.write_bytes(edited(png(90), self.edits))
        elif self.kind == "folder":
            path.mkdir()
            (path / "0.png").write_bytes(png(9))
        elif self.kind == "pipe":
            os.mkfifo(path)
        else:
            targets = {"link": path.parent / "0.png", "nothing": "/nowhere", "loop": path.name, "up": ".."}
            path.symlink_to(targets[self.kind])


STEMS = st.binary(min_size=1, max_size=12) | st.text(min_size=1, max_size=8).map(
    lambda text: text.encode(errors="replace")
)
SUFFIXES = st.sampled_from([b".png", b".PNG", b".jpeg", b".jpg", b".bmp", b"", b".png "])
NAMES = st.builds(
    lambda stem, suffix: stem + suffix, STEMS | st.sampled_from([b".hidden", b"\xff\xfe", b"[red]"]), SUFFIXES
).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
PLACES = st.sampled_from([f"{part}/{name}" for part in ("train", "val") for name in (*CLASSES, "")])
KINDS = st.sampled_from(["image", "image", "image", "folder", "pipe", "link", "nothing", "loop", "up"])
ENTRIES = st.lists(st.builds(Entry, PLACES, NAMES, KINDS, st.just([]) | st.just([]) | EDITS), max_size=4)


def plain_folder(root: Path) -> None:
    for part in ("train", "val"):
        for level, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for number in range(2):
                (root / part / name / f"{number}.png").write_bytes(png(40 + 100 * level + number))


def images_there(folder: Path) -> list[str]:
    """Return the images in the folder of a class, by the rule in the documents."""
    suffixes = (".jpeg", ".jpg", ".png")
    return [
        str(path) for path in folder.iterdir() if path.name.lower().endswith(suffixes) and path.name[0] != "."
    ]


def check_found(root: Path) -> None:
    """Check that what is found is what is there, twice the same, and is decoded or refused."""
    try:
        found, again = (find_images(root.parent, root.name, len(CLASSES)) for _ in range(2))
    except DataError:
        return
    assert (found.train, found.test, found.digest) == (again.train, again.test, again.digest)
    for files, labels, part in (
        (found.train, found.train_labels, "train"),
        (found.test, found.test_labels, "val"),
    ):
        for label, name in enumerate(CLASSES):
            of_class = [file for file, one in zip(files, labels, strict=True) if one == label]
            assert sorted(of_class) == sorted(images_there(root / part / name))
    for file in found.train:
        decoded_or_refused(file)


def decoded_or_refused(file: str) -> None:
    for decoded in (decode_test, lambda path, side: decode_train(path, side, np.random.default_rng(0))):
        with contextlib.suppress(DataError):
            assert decoded(file, SIDE).shape == (3, SIDE, SIDE)


def test_a_folder_with_odd_entries_is_read_or_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = {"benchmark": BENCHMARK.format(side=32), "network": "{kind: resnet18}"}
    (tmp_path / "sweep.yaml").write_text(sweep_text(tmp_path / "runs", **lines))

    def found_or_refused(entries: list[Entry]) -> None:
        home = Path(tempfile.mkdtemp(dir=tmp_path))
        try:
            plain_folder(home / "made")
            for entry in entries:
                entry.make(home / "made")
            check_found(home / "made")
            told("plan", "sweep.yaml", f"data_dir={home}", codes=(0, 2))
        finally:
            shutil.rmtree(home)

    explore(found_or_refused, ENTRIES)
