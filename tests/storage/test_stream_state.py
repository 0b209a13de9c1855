"""Checkpoints of a stream, its log, and Hopfield memories: whole, checked, and refused when damaged."""

import numpy as np
import pytest

from core.errors import DamagedFileError, ForeignFileError
from core.hopfield.memory import memorise, memory_num_bytes
from storage.decisions import read_decisions, write_decisions
from storage.hopfield_file import read_memory, stored_masks_digest, write_memory
from storage.layout import RunLayout
from storage.stream_state import (
    StreamPosition,
    commit_position,
    drop_states,
    latest,
    read_mask_state,
    read_position,
    write_mask_state,
)

FINGERPRINT = "f" * 64
ROW = {
    "decision": 0,
    "batch": 0,
    "num_batches": 100,
    "num_masks": 1,
    "num_candidates": 5,
    "max_nu": 0.25,
    "action": "train",
    "mask": 0,
    "rolled_back": False,
    "digest": "d" * 64,
    "visit": 0,
    "true_task": 0,
}


@pytest.fixture
def layout(tmp_path):
    return RunLayout(tmp_path / "run")


def arrays(seed):
    return {"scores0": np.random.default_rng(seed).random((3, 4)), "num_steps": np.array(7.0)}


def position(files, num_decisions=4):
    return StreamPosition(fingerprint=FINGERPRINT, num_decisions=num_decisions, files=tuple(files))


def test_a_checkpoint_reads_back(layout):
    assert read_position(layout, FINGERPRINT) is None
    files = [
        write_mask_state(layout, 0, 4, arrays(0), is_pending=False),
        write_mask_state(layout, 0, 4, arrays(1), is_pending=True),
    ]
    commit_position(layout, position(files))
    found = read_position(layout, FINGERPRINT)
    assert found == position(files)
    assert latest(found.files) == {0: files[0]}
    for seed, file in enumerate(files):
        stored = read_mask_state(layout, file)
        assert all(np.array_equal(stored[key], value) for key, value in arrays(seed).items())


def test_files_of_the_checkpoint_before_go_only_when_the_next_is_committed(layout):
    old = write_mask_state(layout, 0, 4, arrays(0), is_pending=False)
    commit_position(layout, position([old]))
    new = write_mask_state(layout, 0, 5, arrays(1), is_pending=False)
    assert read_mask_state(layout, read_position(layout, FINGERPRINT).files[0])  # a crash here loses nothing
    commit_position(layout, position([new], 5))
    assert [path.name for path in layout.stream.glob("mask-*.npz")] == [new.name]


def test_damage_is_found_and_named(layout):
    file = write_mask_state(layout, 0, 4, arrays(0), is_pending=False)
    commit_position(layout, position([file]))
    path = layout.stream / file.name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"mask-00000-000004.npz.*digest"):
        read_mask_state(layout, file)
    path.unlink()
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_mask_state(layout, file)
    for text in ("{", "[]", '{"files": [{"mask": 1}]}', "{}"):
        layout.stream_state.write_text(text)
        with pytest.raises(DamagedFileError, match=r"state.json cannot be read"):
            read_position(layout, FINGERPRINT)


def test_a_checkpoint_of_another_run_is_refused(layout):
    commit_position(layout, position([]))
    with pytest.raises(DamagedFileError, match="belongs to another run"):
        read_position(layout, "e" * 64)


def test_dropping_the_states_keeps_the_decisions(layout):
    write_decisions(layout, [ROW], FINGERPRINT, is_complete=True)
    commit_position(layout, position([write_mask_state(layout, 0, 4, arrays(0), is_pending=False)]))
    drop_states(layout)
    assert [path.name for path in layout.stream.iterdir()] == ["decisions.parquet"]


def test_the_log_reads_back_with_its_nulls(layout):
    skipped = {**ROW, "decision": 1, "action": "skip", "mask": None, "digest": None, "max_nu": None}
    assert read_decisions(layout, FINGERPRINT) == ([], False)
    write_decisions(layout, [ROW, skipped], FINGERPRINT, is_complete=False)
    assert read_decisions(layout, FINGERPRINT) == ([ROW, skipped], False)
    write_decisions(layout, [ROW, skipped], FINGERPRINT, is_complete=True)
    assert read_decisions(layout, FINGERPRINT)[1]
    with pytest.raises(DamagedFileError, match="not the decision log"):
        read_decisions(layout, "e" * 64)
    layout.decisions.write_bytes(layout.decisions.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_decisions(layout, FINGERPRINT)


NAMES = ("fc1.output", "fc2.output")


@pytest.fixture
def memory_file(layout):
    masks = [[np.arange(6) % (i + 2) == 0, np.arange(4) % (i + 2) == 0] for i in range(3)]
    memory = memorise("storkey", masks)
    path = layout.memory("storkey", 3)
    write_memory(path, memory, NAMES, fingerprint=FINGERPRINT, masks_digest="m" * 64)
    return path, memory


def test_a_memory_reads_back_bit_for_bit(memory_file):
    path, memory = memory_file
    found = read_memory(path, FINGERPRINT, NAMES)
    assert (found.rule, found.num_masks) == ("storkey", 3)
    for a, b in zip(found.layers, memory.layers, strict=True):
        assert np.array_equal(a.psi, b.psi)
        assert np.array_equal(a.total, b.total)
    assert memory_num_bytes([6, 4]) == found.num_bytes == memory.num_bytes
    assert stored_masks_digest(path) == "m" * 64
    assert path.name == "storkey-00003.parquet"


def test_every_flipped_byte_of_a_memory_is_found(memory_file):
    path, _ = memory_file
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises((DamagedFileError, ForeignFileError)):
            read_memory(path, FINGERPRINT, NAMES)


@pytest.mark.parametrize(("fingerprint", "names"), [("e" * 64, NAMES), (FINGERPRINT, NAMES[::-1])])
def test_a_memory_of_another_run_is_refused(memory_file, fingerprint, names):
    with pytest.raises(ForeignFileError, match="not a Hopfield memory of run"):
        read_memory(memory_file[0], fingerprint, names)


def test_a_missing_memory_is_named(layout):
    with pytest.raises(DamagedFileError, match=r"hebbian-00001.parquet cannot be read"):
        read_memory(layout.memory("hebbian", 1), FINGERPRINT, NAMES)
    assert stored_masks_digest(layout.memory("hebbian", 1)) is None
