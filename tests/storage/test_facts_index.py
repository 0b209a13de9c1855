"""The index of facts: equal to what the files say, used only for files that have not changed, and one listing."""

import os
import sys
from dataclasses import replace

import pytest

from storage import facts_index
from storage.layout import RunLayout
from storage.mask_store import MaskStore
from storage.verify import verify_masks
from tests.storage.conftest import IDENTITY, PROVENANCE, task_mask

LISTED: list[str] = []
sys.addaudithook(lambda event, arguments: LISTED.append(str(arguments[0])) if event == "os.scandir" else None)


@pytest.fixture
def many(tmp_path) -> MaskStore:
    """70 settled files of two masks each, and their index."""
    return stored(tmp_path, 70)


def stored(folder, num_files):
    store = MaskStore(RunLayout(folder / "run"), IDENTITY)
    for first in range(0, 2 * num_files, 2):
        path = store.write_cohort([task_mask(first), task_mask(first + 1)], PROVENANCE)
        os.utime(path, ns=(10**18, 10**18))
    store.keep_facts(store.facts())
    return store


def num_listings(work):
    LISTED.clear()
    work()
    return sum(path.endswith("masks") for path in LISTED)


def test_the_index_says_what_the_files_say(many):
    facts, files = many.facts(), many.verified_facts()
    assert facts.num_read == 0
    assert files.num_read == 70
    assert facts.table.equals(files.table)
    assert facts.infos() == files.infos()
    assert facts.digests == files.digests


def test_a_file_that_changed_is_read_again(many):
    """Also one of the same size: masks at density 0.5 do not compress."""
    path = many.layout.cohort(4, 5)
    num_bytes = path.stat().st_size
    for seed in range(200, 300):  # digests compress to one byte more or less
        other = replace(task_mask(4), bits=task_mask(seed).bits)
        many.write_cohort([other, task_mask(5)], PROVENANCE)
        if path.stat().st_size == num_bytes:
            break
    assert path.stat().st_size == num_bytes
    facts = many.facts()
    assert facts.num_read == 1
    assert facts.table.equals(many.verified_facts().table)


def test_a_damaged_file_is_left_out_and_named(many):
    path = many.layout.cohort(4, 5)
    path.write_bytes(path.read_bytes()[:-9])
    facts = many.facts()
    assert list(facts.problems) == [path.name]
    assert len(facts.table) == 138
    assert facts.digests.joint(5) is None
    assert [problem.path for problem in verify_masks(many, quick=True).problems] == [path]


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1], lambda _: b"", lambda c: c[:99] + b"?" + c[100:]]
)
def test_a_bad_index_is_not_used(many, change):
    many.layout.facts.write_bytes(change(many.layout.facts.read_bytes()))
    assert many.facts().num_read == 70


def test_an_index_of_another_run_is_not_used(many):
    other = MaskStore(many.layout, replace(IDENTITY, fingerprint="0" * 64))
    assert len(other.facts().problems) == 70


def test_few_or_unsettled_files_are_not_indexed(tmp_path, monkeypatch):
    few = stored(tmp_path / "few", 3)
    assert not few.layout.facts.exists()
    monkeypatch.setattr(facts_index, "LEAST_NEW", 0)
    few.write_cohort([task_mask(6)], PROVENANCE)
    few.keep_facts(few.facts())
    assert few.facts().num_read == 1


def test_a_folder_that_cannot_be_written_needs_no_index(many, monkeypatch):
    def fail(*_):
        raise PermissionError

    monkeypatch.setattr(facts_index, "commit_bytes", fail)
    many.layout.facts.unlink()
    many.keep_facts(many.facts())
    assert many.facts().num_read == 70


@pytest.mark.parametrize("num_files", [3, 9])
def test_each_way_of_reading_lists_the_folder_once(tmp_path, num_files):
    store = stored(tmp_path, num_files)
    files, tasks = store.locate(), range(2 * num_files)
    assert num_listings(lambda: [*store.iterate(tasks)]) == 1
    assert num_listings(lambda: [*store.iterate(tasks, files)]) == 0
    assert num_listings(lambda: [*store.iterate_bits(tasks, store.named(files.holding(tasks)))]) == 0
    assert num_listings(store.facts) == 1
    assert num_listings(lambda: store.facts_of(files.names)) == 0
    assert num_listings(lambda: verify_masks(store)) == 1
