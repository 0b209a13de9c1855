"""The bank file: the masks in another order, made when needed, never stale."""

from dataclasses import replace

import numpy as np
import pytest

import storage.bank_file
from core.errors import DamagedFileError, ForeignFileError, RunFolderError
from core.masks.bits import packed_num_bytes
from core.masks.packed_sums import from_tiles
from storage.bank_file import ensure_bank, map_bank
from storage.layout import RunLayout
from storage.mask_store import MaskStore
from tests.storage.conftest import IDENTITY, PROVENANCE, SHAPES, task_mask

NUM_BYTES = packed_num_bytes(SHAPES)


def stored_bits(store: MaskStore, num_tasks: int) -> list[bytes]:
    return [mask.bits for mask in store.iterate(range(num_tasks))]


def mapped_bits(path) -> list[bytes]:
    return [row.tobytes() for row in from_tiles(map_bank(path, NUM_BYTES), NUM_BYTES)]


@pytest.mark.parametrize("chunk", [1, 2, 512])
def test_it_holds_every_mask_whatever_the_chunks_it_was_made_in(store, monkeypatch, chunk):
    monkeypatch.setattr(storage.bank_file, "CHUNK_MASKS", chunk)
    assert mapped_bits(ensure_bank(store)) == stored_bits(store, 5)


def test_it_is_mapped_and_cannot_be_written(store):
    tiles = map_bank(ensure_bank(store), NUM_BYTES)
    assert not tiles.flags.writeable
    assert isinstance(tiles.base, np.memmap)


def test_it_is_made_once_and_again_only_when_the_masks_change(store):
    path = ensure_bank(store)
    written = path.stat().st_mtime_ns
    assert ensure_bank(store) == path
    assert path.stat().st_mtime_ns == written
    store.write_cohort([task_mask(5)], PROVENANCE)
    grown = ensure_bank(store)
    assert grown != path
    assert not path.exists()
    assert mapped_bits(grown) == stored_bits(store, 6)


def test_other_bits_give_another_file(store):
    path = ensure_bank(store)
    store.write_cohort([task_mask(t + 10) for t in range(3)], PROVENANCE)  # tasks 10-12, not leading
    assert ensure_bank(store) == path
    store.layout.cohort(0, 2).unlink()
    store.write_cohort([task_mask(0), task_mask(1)], PROVENANCE)
    assert store.locate().num_leading == 2
    assert mapped_bits(ensure_bank(store)) == stored_bits(store, 2)


def test_a_run_without_masks_has_no_bank(tmp_path):
    store = MaskStore(RunLayout(tmp_path / "run"), IDENTITY)
    with pytest.raises(RunFolderError, match="has no mask of task 0; run the sweep first"):
        ensure_bank(store)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"not numpy", "cut"], ids=["empty", "text", "cut"])
def test_a_damaged_bank_is_named_with_what_to_do(store, content):
    path = ensure_bank(store)
    path.write_bytes(path.read_bytes()[:-7] if content == "cut" else content)
    with pytest.raises(DamagedFileError, match="delete it, and it will be made again") as raised:
        map_bank(path, NUM_BYTES)
    assert str(path) in str(raised.value)
    assert mapped_bits(ensure_bank(store)) == stored_bits(store, 5)


def test_a_bank_of_other_masks_is_refused(store):
    path = ensure_bank(store)
    with pytest.raises(DamagedFileError, match="is not a bank of masks of 300 bytes"):
        map_bank(path, 300)
    with pytest.raises(DamagedFileError, match="cannot be read"):
        map_bank(path.with_name("nowhere.npy"), NUM_BYTES)


def test_one_changed_bit_is_found_and_the_bank_made_again(store):
    path = ensure_bank(store)
    whole = path.read_bytes()
    for place in (130, len(whole) // 2, len(whole) - 130, len(whole) - 100, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(DamagedFileError, match="delete it, and it will be made again"):
            map_bank(path, NUM_BYTES)
    assert ensure_bank(store) == path
    assert path.read_bytes() == whole


def test_rows_in_another_order_are_found(store):
    path = ensure_bank(store)
    tiles = np.load(path, mmap_mode="r+")
    tiles[:] = tiles[:, [1, 2, 3, 4, 0]].copy()
    tiles.flush()
    with pytest.raises(DamagedFileError, match="its bytes do not match its digest"):
        map_bank(path, NUM_BYTES)


def test_the_bank_of_other_masks_under_its_name_is_refused(store):
    path = ensure_bank(store)
    content = path.read_bytes()
    store.write_cohort([task_mask(5)], PROVENANCE)
    grown = ensure_bank(store)
    grown.write_bytes(content)
    with pytest.raises(DamagedFileError, match="its bytes do not match its digest"):
        map_bank(grown, NUM_BYTES)


def test_a_bank_of_an_older_version_without_a_footer_is_made_again(store):
    path = ensure_bank(store)
    whole = path.read_bytes()
    path.write_bytes(whole[:-128])
    assert ensure_bank(store) == path
    assert path.read_bytes() == whole


def test_a_full_disk_is_an_error_that_names_file_and_need(store, monkeypatch):
    def full(descriptor, start, num_bytes):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device; it needs [\d,]+ bytes.*\.npy") as raised:
        ensure_bank(store)
    assert raised.value.errno == 28
    assert list(store.layout.banks.iterdir()) == []


def test_damaged_masks_make_no_bank(store):
    file = store.layout.cohort(0, 2)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises((DamagedFileError, ForeignFileError)):
        ensure_bank(store)
    assert not list(store.layout.banks.glob("*")) if store.layout.banks.exists() else True


def test_a_run_that_has_grown_takes_its_earlier_masks_from_the_bank_of_then(store, monkeypatch):
    path, asked = ensure_bank(store), []
    store.write_cohort([task_mask(5), task_mask(6)], PROVENANCE)
    read = MaskStore.iterate_bits
    monkeypatch.setattr(
        MaskStore, "iterate_bits", lambda self, tasks, files: asked.extend(tasks) or read(self, tasks, files)
    )
    grown = ensure_bank(store)
    assert asked == [5, 6]
    assert not path.exists()
    assert mapped_bits(grown) == stored_bits(store, 7)


@pytest.mark.parametrize("first", [0, 3])
def test_a_bank_of_masks_that_have_changed_since_is_not_taken_over(store, first):
    ensure_bank(store)
    files = {0: (0, 2), 3: (3, 4)}
    store.layout.cohort(*files[first]).unlink()
    store.write_cohort(
        [replace(task_mask(t + 20), task=t) for t in range(first, files[first][1] + 1)], PROVENANCE
    )
    store.write_cohort([task_mask(5)], PROVENANCE)
    assert mapped_bits(ensure_bank(store)) == stored_bits(store, 6)
