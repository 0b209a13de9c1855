"""Checkpoints: bytes and names never change, old files are read, damaged and foreign ones are passed over."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.errors import DamagedFileError, ForeignFileError, RunFolderError
from storage.checkpoints import (
    Checkpoint,
    num_learned,
    read_baseline,
    read_score_sum,
    saved_steps,
    write_baseline,
    write_score_sum,
)
from storage.layout import RunLayout
from storage.stream_state import (
    StreamPosition,
    commit_position,
    read_mask_state,
    read_position,
    write_mask_state,
)

STORED = Path(__file__).parent / "checkpoints"  # written by commit dc85f8d, before there was this module
NAMES = {
    "saves/cohort-00000-00003-bf38d99eb17b4d4a.npz",
    "baseline/state-00003-779648b296a2e0f3.npz",
    "transfer/scores-00004-449e66f480a96063.npz",
    "stream/mask-00003-000120.npz",
    "stream/mask-00003-000120-pending.npz",
    "stream/state.json",
}
STREAM_SHA256 = "56ca53544d643a6da08e29c28f1d73c3a6957361fdcc25c6e681bd4fa7222501"
FINGERPRINT = "f" * 64
HEADER = {"fingerprint": FINGERPRINT, "network": "d" * 64, "engine": "eager"}
ARRAYS = {"part": np.array(1), "now/scores0": np.arange(6, dtype=np.float32).reshape(2, 3)}
SUMS = [np.arange(4.0).reshape(2, 2), np.ones(3)]


def npy(array):
    np.save(sink := io.BytesIO(), array)
    return sink.getvalue()


def npz(**arrays):
    np.savez(sink := io.BytesIO(), **arrays)
    return sink.getvalue()


@pytest.fixture
def layout(tmp_path):
    return RunLayout(tmp_path / "run")


def cohort(layout, **header):
    return Checkpoint(layout.cohort_checkpoint(0, 3), {**HEADER, **header})


def write_all(layout):
    cohort(layout).write(ARRAYS)
    write_baseline(layout, 3, ARRAYS, FINGERPRINT)
    write_score_sum(layout, 4, SUMS, FINGERPRINT)
    files = [write_mask_state(layout, 3, 120, ARRAYS, is_pending=pending) for pending in (False, True)]
    commit_position(layout, StreamPosition(fingerprint=FINGERPRINT, num_decisions=120, files=tuple(files)))


def content(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def is_equal(found, arrays):
    same = (
        found[key].dtype == value.dtype and np.array_equal(found[key], value) for key, value in arrays.items()
    )
    return found.keys() == arrays.keys() and all(same)


def test_the_same_arrays_give_the_same_names_and_bytes(layout):
    write_all(layout)
    found = content(layout.root)
    assert found.keys() == NAMES
    assert found == content(STORED)
    for name, stored in found.items():
        sha256 = hashlib.sha256(stored).hexdigest()
        if name.startswith("stream/mask"):
            assert sha256 == STREAM_SHA256
        elif name.endswith(".npz"):
            assert name.endswith(f"-{sha256[:16]}.npz")


def test_files_of_the_code_before_are_read(layout):
    shutil.copytree(STORED, layout.root)
    arrays, problems = cohort(layout).read_latest()
    assert problems == []
    assert is_equal(arrays, ARRAYS)
    num_tasks, values = read_baseline(layout, FINGERPRINT)
    assert num_tasks == num_learned(layout) == 3
    assert is_equal(values, ARRAYS)
    sums = read_score_sum(layout, 4, FINGERPRINT)
    assert all(np.array_equal(a, b) for a, b in zip(sums, SUMS, strict=True))
    position = read_position(layout, FINGERPRINT)
    assert position.num_decisions == 120
    assert [file.is_pending for file in position.files] == [False, True]
    assert all(is_equal(read_mask_state(layout, file), ARRAYS) for file in position.files)


def test_a_cohort_keeps_its_last_checkpoint_and_leaves_those_of_others(layout):
    other = Checkpoint(layout.cohort_checkpoint(4, 7), HEADER)
    other.write(ARRAYS)
    for part in (1, 2):
        cohort(layout).write({**ARRAYS, "part": np.array(part)})
    assert len(cohort(layout).files()) == 1
    assert cohort(layout).read_latest()[0]["part"] == 2
    cohort(layout).remove()
    assert cohort(layout).read_latest() == (None, [])
    assert list(layout.saves.iterdir()) == other.files()


def test_the_checkpoint_that_counts_is_whole_and_of_this_run_and_machine(layout):
    cohort(layout, engine="fused").add(ARRAYS)
    (foreign,) = cohort(layout).files()
    torn = layout.saves / "cohort-00000-00003-0000000000000000.npz"
    torn.write_bytes(foreign.read_bytes()[:-100])
    arrays, problems = cohort(layout).read_latest()
    assert arrays is None
    assert {type(problem) for problem in problems} == {DamagedFileError, ForeignFileError}
    assert {str(problem) for problem in problems} == {
        f"{torn}: its bytes do not match the digest in its name",
        f"{foreign} belongs to another run or machine: engine 'fused', expected 'eager'",
    }
    cohort(layout).add(ARRAYS)
    assert is_equal(cohort(layout).read_latest()[0], ARRAYS)


def test_a_file_that_is_no_npz_is_damaged_even_with_its_own_digest(layout):
    words = b"not an npz file"
    path = layout.saves / f"cohort-00000-00003-{hashlib.sha256(words).hexdigest()[:16]}.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(words)
    (problem,) = cohort(layout).read_latest()[1]
    assert isinstance(problem, DamagedFileError)
    assert str(problem).startswith(f"{path} cannot be read (")


def test_a_baseline_falls_back_to_the_newest_state_that_can_be_used(layout):
    assert (num_learned(layout), read_baseline(layout, FINGERPRINT)) == (0, (0, {}))
    write_baseline(layout, 2, ARRAYS, FINGERPRINT)
    (older,) = layout.baseline.iterdir()
    kept = older.read_bytes()
    write_baseline(layout, 3, ARRAYS, FINGERPRINT)
    (newer,) = layout.baseline.iterdir()
    older.write_bytes(kept)
    assert read_baseline(layout, FINGERPRINT)[0] == 3
    newer.write_bytes(newer.read_bytes()[:-1])
    assert read_baseline(layout, FINGERPRINT)[0] == 2
    assert num_learned(layout) == 3  # by names alone
    assert read_baseline(layout, "e" * 64) == (0, {})


def test_a_sum_of_scores_stays_until_the_one_after_the_next(layout):
    for num_tasks in (1, 2, 3):
        write_score_sum(layout, num_tasks, SUMS, FINGERPRINT)
    assert sorted(path.name[:12] for path in layout.transfer.iterdir()) == ["scores-00002", "scores-00003"]
    with pytest.raises(RunFolderError, match="no sum of the scores of the first 1 task,"):
        read_score_sum(layout, 1, FINGERPRINT)
    with pytest.raises(ForeignFileError, match="belongs to another run"):
        read_score_sum(layout, 3, "e" * 64)
    (path,) = layout.transfer.glob("scores-00003-*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match="digest in its name"):
        read_score_sum(layout, 3, FINGERPRINT)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", npy(np.zeros(3)), npz(steps=np.array(5))])
def test_steps_of_a_damaged_checkpoint_are_none(tmp_path, content):
    path = tmp_path / "cohort-00000-00003-0123456789abcdef.npz"
    path.write_bytes(content)
    assert saved_steps(path) == (0, 0)
