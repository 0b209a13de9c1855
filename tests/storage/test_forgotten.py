"""Tombstones: by their names alone a task has no mask, wherever its bits still are."""

import json

import pytest

from core.errors import DamagedFileError, RunFolderError
from core.masks.bits import joint_digest
from storage.bank_file import bank_path, ensure_bank, map_bank
from storage.layout import RunLayout, forgotten_task
from storage.mask_copy import copy_masks, tasks_of
from storage.mask_files import MaskFiles
from storage.mask_store import MaskStore
from storage.tombstone import Tombstone, read_tombstone, write_tombstone
from storage.verify import verify_masks
from tests.storage.conftest import IDENTITY, task_mask

FILES = ["cohort-00000-00002.parquet", "cohort-00003-00004.parquet"]


def bury(store, *tasks):
    for task in tasks:
        write_tombstone(store.layout, Tombstone(task=task, digest=None, forgotten_s=1.0))


@pytest.mark.parametrize(
    ("forgotten", "leading"),
    [
        ((), (0, 1, 2, 3, 4)),
        ((1,), (0, 2, 3, 4)),
        ((0, 4), (1, 2, 3)),
        ((5,), (0, 1, 2, 3, 4)),
        ((6,), (0, 1, 2, 3, 4)),
        ((0, 1, 2, 3, 4), ()),
    ],
)
def test_leading_tasks_are_those_before_the_first_that_lacks_its_mask(tmp_path, forgotten, leading):
    names = [*FILES, *(f"forgotten-{task:05d}.json" for task in forgotten)]
    files = MaskFiles.of_names(tmp_path, names)
    assert (files.leading, set(files)) == (leading, set(range(5)) - set(forgotten))
    assert files.num_leading == (6 if forgotten == (5,) else 5)


@pytest.mark.parametrize(("forgotten", "num_leading"), [((), 0), ((0,), 1), ((1, 2), 0), ((0, 1, 2), 5)])
def test_a_task_that_lacks_its_mask_ends_the_leading_ones(tmp_path, forgotten, num_leading):
    names = [FILES[1], *(f"forgotten-{task:05d}.json" for task in forgotten)]
    assert MaskFiles.of_names(tmp_path, names).num_leading == num_leading


@pytest.mark.parametrize(
    "name", ["forgotten-1.json", "forgotten-00001.parquet", ".forgotten-00001.json", "x"]
)
def test_other_names_are_no_tombstones(name):
    assert forgotten_task(name) is None
    assert forgotten_task("forgotten-00001.json") == 1
    assert forgotten_task("forgotten-1000000.json") == 1_000_000


def test_facts_digests_and_bank_leave_the_task_out(store):
    digests = store.facts().digests.leading
    bury(store, 1)
    facts = store.facts()
    assert facts.table["task"].to_pylist() == [0, 2, 3, 4]
    assert facts.digests.leading == (digests[0], "", *digests[2:])
    assert facts.digests.joint(3) == joint_digest([digests[0], digests[2]])
    assert facts.strays == ()
    assert bank_path(store, facts).name.startswith("masks-00004-")
    assert map_bank(ensure_bank(store), len(task_mask(0).bits)).shape[1] == 4
    assert verify_masks(store).problems == ()
    with pytest.raises(RunFolderError, match="task 1 was forgotten"):
        store.read(1)


def test_a_tombstone_says_when_and_why_and_a_damaged_one_still_counts(store):
    tombstone = Tombstone(task=1, digest="a" * 64, forgotten_s=2.5, reason="asked to")
    write_tombstone(store.layout, tombstone)
    assert read_tombstone(store.layout, 1) == tombstone
    assert "bits" not in json.loads(store.layout.tombstone(1).read_text())
    store.layout.tombstone(1).write_text("{")
    assert 1 not in store.locate()
    with pytest.raises(DamagedFileError):
        read_tombstone(store.layout, 1)


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        ([0, 1, 2], ["cohort-00000-00002.parquet"]),
        ([0, 2], ["cohort-00000-00000.parquet", "cohort-00002-00002.parquet"]),
        ([1, 2], ["cohort-00001-00002.parquet"]),
    ],
)
def test_masks_are_copied_with_their_bits_and_provenance(store, tmp_path, tasks, names):
    target = MaskStore(RunLayout(tmp_path / "other"), IDENTITY)
    paths = copy_masks(store, FILES[0], tasks, target)
    assert [path.name for path in paths] == names
    assert list(target.iterate(tasks)) == list(store.iterate(tasks))
    assert all(target.check(path) == list(tasks_of(path.name)) for path in paths)
    assert all(target.provenance(path) == store.provenance(store.files()[0]) for path in paths)
    if len(names) == 1 and len(tasks) == 3:
        assert paths[0].read_bytes() == store.files()[0].read_bytes()
