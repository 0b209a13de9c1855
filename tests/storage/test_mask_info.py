"""Masks of any density in the store: exact, and within 1.25 times their entropy."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.errors import DamagedFileError
from core.masks.bits import pack
from storage.layout import RunLayout
from storage.mask_store import GAPS_SCHEMA, MaskStore, StoreIdentity, TaskMask
from storage.verify import verify_masks
from tests.storage.conftest import PROVENANCE

SHAPES = ((64, 3, 3, 3), (200, 500), (5, 200))
IDENTITY = StoreIdentity(
    fingerprint="e" * 64,
    layers=tuple((f"layer{i}.weight", shape) for i, shape in enumerate(SHAPES)),
    network={"kind": "conv4", "seed": 1, "outputs": 5, "digest": "d" * 64, "norms": [["norm", 1]]},
)
NUM_WEIGHTS = sum(int(np.prod(shape)) for shape in SHAPES)


def mask(task, density):
    draw = np.random.default_rng(task)
    bits = pack([draw.random(shape) < density for shape in SHAPES]).tobytes()
    return TaskMask(
        task=task, bits=bits, test_accuracy=0.5, train_loss=0.25, train_seconds=1.0, norm_stats=b"12345678"
    )


@pytest.mark.parametrize("statistics", [b"1234", b"123456781234", b"1234567", None])
def test_statistics_of_another_number_are_damaged(tmp_path, statistics):
    store = MaskStore(RunLayout(tmp_path), IDENTITY)
    store.write_cohort([replace(mask(0, 0.5), norm_stats=statistics)], PROVENANCE)
    with pytest.raises(DamagedFileError, match="norm_stats"):
        [*store.iterate([0])]


@pytest.mark.parametrize("made", [{"finished_s": 9.5}, {"finished_s": 9.5, "started_s": 8.5}])
def test_work_that_does_not_say_when_it_began_took_the_time_of_its_training(tmp_path, made):
    store = MaskStore(RunLayout(tmp_path), IDENTITY)
    masks = [replace(mask(task, 0.5), train_seconds=2.0) for task in range(2)]
    store.write_cohort(masks, PROVENANCE | made)
    table = store.facts().table
    started_s = made.get("started_s", 5.5)
    assert table["started_s"].to_pylist() == [started_s] * 2
    assert table["finished_s"].to_pylist() == [9.5] * 2
    assert table["num_norm_bytes"].to_pylist() == [table["num_norm_bytes"][0].as_py()] * 2
    assert table["num_bytes"].null_count == 0


def test_the_task_of_a_wrong_measurement_is_named(tmp_path):
    store = MaskStore(RunLayout(tmp_path), IDENTITY)
    masks = [mask(0, 0.5), *(replace(mask(task, 0.5), test_accuracy=task + 0.5) for task in (1, 2))]
    path = store.write_cohort(masks, PROVENANCE)
    words = f"{path}: task 1: its test_accuracy is 1.5, expected a number from 0 to 1"
    assert [str(error) for error in store.facts().problems.values()] == [words]


def test_bits_and_statistics_are_read_without_each_other(tmp_path):
    store = MaskStore(RunLayout(tmp_path), IDENTITY)
    wanted = mask(0, 0.5)
    store.write_cohort([wanted], PROVENANCE)
    (bits,) = store.iterate_bits([0])
    assert bits.tobytes() == wanted.bits
    assert store.statistics([0]).tobytes() == wanted.norm_stats


@pytest.mark.parametrize(
    "density", [0.0, 1 / 256, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 0.19, 0.21, 1 / 2, 0.79, 0.9, 0.99, 1.0]
)
def test_stored_masks_are_exact_and_near_their_entropy(tmp_path, density):
    store = MaskStore(RunLayout(tmp_path), IDENTITY)
    wanted = mask(0, density)
    store.write_cohort([wanted], PROVENANCE)
    assert store.read(0) == wanted
    (facts,) = store.facts().infos()
    assert facts.encoding == ("bits" if 0.2 <= density <= 0.8 else "gaps")
    p = facts.density
    if 0 < p < 1:
        entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        page_header = 60  # bytes, of a column in a row group
        assert facts.num_bytes - page_header <= 1.25 * entropy * NUM_WEIGHTS / 8


def test_a_file_of_dense_masks_is_of_format_1_and_one_with_gaps_of_format_2(tmp_path):
    store = MaskStore(RunLayout(tmp_path), IDENTITY)
    paths = [
        store.write_cohort([mask(0, 0.5)], PROVENANCE),
        store.write_cohort([mask(1, 0.5), mask(2, 0.1)], PROVENANCE),
    ]
    files = [pq.ParquetFile(path) for path in paths]
    assert [f.schema_arrow.metadata[b"supsup.format_version"] for f in files] == [b"1", b"2"]
    assert "gaps" not in files[0].schema_arrow.names
    assert files[1].schema_arrow.equals(GAPS_SCHEMA)
    rows = files[1].read().to_pylist()
    assert [(row["bits"] is None, row["gaps"] is None, row["rare_bit"]) for row in rows] == [
        (False, True, None),
        (True, False, 1),
    ]
    assert verify_masks(store).tasks == {0, 1, 2}
    assert [mask.task for mask in store.iterate([2, 0, 1])] == [2, 0, 1]


def test_a_mask_of_gaps_reads_without_code_of_ours(tmp_path):
    store = MaskStore(RunLayout(tmp_path), IDENTITY)
    wanted = mask(0, 0.02)
    path = store.write_cohort([wanted], PROVENANCE)
    row = pq.read_table(path).to_pylist()[0]
    gaps = np.frombuffer(row["gaps"], "u1").astype(int)
    places = (np.cumsum(np.where(gaps == 255, 255, gaps + 1)) - 1)[gaps < 255]
    bits = np.full(8 * len(wanted.bits), 1 - row["rare_bit"], "u1")
    bits[places] = row["rare_bit"]
    assert np.packbits(bits, bitorder="little").tobytes() == wanted.bits
    assert json.loads(pq.read_metadata(path).metadata[b"supsup.layers"])[0]["shape"] == [64, 3, 3, 3]


def test_gaps_that_do_not_make_the_digest_are_found(tmp_path, monkeypatch):
    """Also where every checksum of the file is right."""
    store = MaskStore(RunLayout(tmp_path), IDENTITY)
    from storage import mask_store

    monkeypatch.setattr(mask_store, "to_gaps", lambda packed, bit: np.array([255] * 9999, dtype=np.uint8))
    path = store.write_cohort([mask(0, 0.02)], PROVENANCE)
    with pytest.raises(DamagedFileError, match="task 0"):
        store.read(0)
    (problem,) = verify_masks(store).problems
    assert str(path) in problem.message
