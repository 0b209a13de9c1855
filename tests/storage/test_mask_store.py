"""The mask store: exact contents, one mask at a time, nothing wrong taken for right."""

import json
import multiprocessing
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import DamagedFileError, ForeignFileError, RunFolderError
from storage.files import KEY, decoded, sealed_parquet
from storage.layout import RunLayout
from storage.mask_store import SCHEMA, MaskStore
from storage.verify import verify_masks
from tests.storage.conftest import IDENTITY, PROVENANCE, SHAPES, task_mask
from tests.storage.pages import spoil_page_checksum


def test_columns_and_metadata_are_those_of_the_contract(store):
    file = pq.ParquetFile(store.files()[0])
    fields = {f.name: (str(f.type), f.nullable) for f in file.schema_arrow}
    assert fields == {
        "task": ("int32", False),
        "bits": ("binary", False),
        "digest": ("string", False),
        "density": ("float", False),
        "test_accuracy": ("float", False),
        "train_loss": ("float", False),
        "train_seconds": ("float", False),
        "norm_stats": ("binary", True),
    }
    metadata = {k.decode(): v.decode() for k, v in file.schema_arrow.metadata.items()}
    assert metadata["supsup.format_version"] == "1"
    assert metadata["supsup.fingerprint"] == "f" * 64
    assert json.loads(metadata["supsup.layers"])[1] == {"name": "fc2.weight", "shape": [3, 5]}
    assert json.loads(metadata["supsup.network"]) == IDENTITY.network
    assert json.loads(metadata["supsup.provenance"]) == PROVENANCE


def test_masks_read_back_as_written(store):
    assert [store.read(t) for t in range(5)] == [
        replace(task_mask(t), test_accuracy=float(np.float32(0.9))) for t in range(5)
    ]
    assert store.info_table()["task"].to_pylist() == list(range(5))
    assert "bits" not in store.info_table().column_names


def test_reading_one_mask_reads_little_else(tmp_path):
    """Of 32 masks of 125 kB, one read takes less than two masks' bytes."""
    shapes = ((1000, 1000),)
    identity = replace(IDENTITY, layers=(("fc1.weight", shapes[0]),))
    store = MaskStore(RunLayout(tmp_path), identity)
    path = store.write_cohort([task_mask(t, shapes) for t in range(32)], PROVENANCE)

    class CountingFile:
        def __init__(self):
            self.file, self.num_bytes, self.closed = path.open("rb"), 0, False

        def read(self, size=-1):
            content = self.file.read(size)
            self.num_bytes += len(content)
            return content

        def __getattr__(self, name):
            return getattr(self.file, name)

    counting = CountingFile()
    pq.ParquetFile(counting, page_checksum_verification=True).read_row_group(17)
    counting.file.close()
    assert counting.num_bytes < 2 * 125_000
    assert path.stat().st_size > 32 * 125_000


def test_a_task_in_two_files_counts_once_from_the_first_name(store):
    late = replace(task_mask(2), test_accuracy=0.5)
    store.write_cohort([late, task_mask(3)], PROVENANCE)
    assert store.read(2).test_accuracy == pytest.approx(0.9)  # cohort-00000-00002 sorts first
    assert store.locate()[3].name == "cohort-00002-00003.parquet"
    assert store.info_table()["task"].to_pylist() == list(range(5))


def test_a_missing_task_is_an_error_that_says_so(store):
    with pytest.raises(RunFolderError, match="has no mask of task 5; run it first"):
        store.read(5)


def test_padding_bits_are_refused_when_written(store):
    bad = replace(task_mask(5), bits=b"\xff" * len(task_mask(5).bits))
    with pytest.raises(DamagedFileError, match="padding"):
        store.write_cohort([bad], PROVENANCE)
    assert len(store.files()) == 2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"fingerprint": "0" * 64}, "supsup.fingerprint"),
        ({"network": {**IDENTITY.network, "digest": "0" * 64}}, "supsup.network"),
        ({"layers": (("fc1.weight", SHAPES[0]), ("fc2.weight", (5, 3)))}, "supsup.layers"),
    ],
)
def test_a_file_of_another_run_is_refused_by_name(store, changes, word):
    other = MaskStore(store.layout, replace(IDENTITY, **changes))
    with pytest.raises(
        ForeignFileError, match=rf"cohort-00000-00002\.parquet belongs to another run: {word}"
    ):
        other.read(0)


def test_a_flipped_bit_anywhere_is_found(store):
    """Every third byte of a mask file, a random bit of each."""
    path = store.files()[0]
    content, draw = path.read_bytes(), random.Random(0)
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(damaged))
        with pytest.raises((DamagedFileError, ForeignFileError), match=path.name):
            store.check(path)


def test_reading_a_mask_checks_its_pages(store):
    spoil_page_checksum(store.files()[0], "train_seconds", row_group=1)
    assert [mask.task for mask in store.iterate([0, 2])] == [0, 2]
    with pytest.raises(DamagedFileError, match="cannot be read"):
        store.read(1)


def test_reading_a_mask_checks_its_digest_in_a_file_sealed_anew(store):
    path = store.files()[0]
    rows, metadata = pq.read_table(path).to_pylist(), decoded(pq.read_schema(path).metadata)
    rows[1]["bits"] = bytes([rows[1]["bits"][0] ^ 1]) + rows[1]["bits"][1:]
    del metadata[KEY]
    path.write_bytes(sealed_parquet(pa.Table.from_pylist(rows, SCHEMA), metadata, row_group_size=1))
    assert store.read(0).task == 0
    with pytest.raises(DamagedFileError, match="task 1: the mask does not match its digest"):
        store.read(1)
    assert [problem.path for problem in verify_masks(store).problems] == [path]


def test_a_truncated_file_is_damaged_at_every_length(store):
    path = store.files()[0]
    content = path.read_bytes()
    for length in range(0, len(content), 61):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFileError, match=path.name):
            store.check(path)


def test_writers_of_the_same_cohort_at_once_leave_one_whole_file(store):
    """A zombie worker that finishes late replaces a file with an equal one."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(store,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert store.check(store.layout.cohort(0, 2)) == [0, 1, 2]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(path.name for path in store.layout.masks.iterdir()) == [
        "cohort-00000-00002.parquet",
        "cohort-00003-00004.parquet",
    ]


def _write_often(store: MaskStore) -> None:
    for _ in range(20):
        store.write_cohort([task_mask(t) for t in range(3)], PROVENANCE)


def test_a_file_with_another_column_is_refused(store):
    path = store.files()[0]
    metadata = {key: value for key, value in decoded(pq.read_schema(path).metadata).items() if key != KEY}
    table = pq.read_table(path).append_column("note", [["a", "b", "c"]])
    path.write_bytes(sealed_parquet(table.replace_schema_metadata(None), metadata, row_group_size=1))
    with pytest.raises(ForeignFileError, match="does not have the columns of a mask file"):
        store.read(0)
    assert [(problem.kind, problem.path) for problem in verify_masks(store).problems] == [("foreign", path)]


def test_a_row_of_a_task_that_cannot_be_is_in_no_table(store):
    resealed(store.layout.cohort(3, 4), change=lambda rows: [rows[0], rows[1] | {"task": -7}])
    assert [info.task for info in store.facts().infos()] == [0, 1, 2, 3]


def changed(**values):
    return lambda rows: [row | values for row in rows]


def resealed(path, *, change=lambda rows: rows, provenance=None, **options):
    """Write a mask file again, with a good seal, as somebody with the same tools could."""
    file = pq.ParquetFile(path)
    metadata = {key: value for key, value in decoded(file.schema_arrow.metadata).items() if key != KEY}
    if provenance is not None:
        metadata["supsup.provenance"] = provenance
    table = pa.Table.from_pylist(change(file.read().to_pylist()), schema=SCHEMA)
    path.write_bytes(sealed_parquet(table, metadata, **{"row_group_size": 1} | options))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"provenance": "{bad"}, "supsup.provenance cannot be read"),
        ({"provenance": "[1, 2]"}, "expected a mapping"),
        ({"provenance": "[" * 100_000}, "supsup.provenance cannot be read"),
        ({"change": lambda rows: []}, "found 0 rows"),
        ({"row_group_size": 8}, "found 3 rows in 1 row groups"),
        (
            {"change": lambda rows: [row | {"norm_stats": b"abc"} for row in rows]},
            "norm_stats are no float32",
        ),
        ({"change": lambda rows: [row | {"norm_stats": bytes(8)} for row in rows]}, "8 bytes, expected 0"),
        ({"change": changed(test_accuracy=7.5)}, "its test_accuracy is 7.5, expected a number from 0 to 1"),
        ({"change": changed(test_accuracy=float("nan"))}, "its test_accuracy is nan"),
        ({"change": changed(density=-0.1)}, "its density is -0.1"),
        ({"change": changed(density=0.9)}, r"its density is 0.9, but the mask keeps 0\.4"),
        ({"change": changed(train_loss=float("inf"))}, "its train_loss is inf, expected a number from 0"),
        ({"change": changed(train_seconds=-1.0)}, "its train_seconds is -1"),
        ({"provenance": '{"finished_s": NaN}'}, "does not say when it was made"),
        ({"provenance": '{"finished_s": 1' + "0" * 400 + "}"}, "does not say when it was made"),
    ],
)
def test_a_sealed_file_with_odd_metadata_or_rows_is_damaged(store, changes, words):
    path = store.files()[0]
    resealed(path, **changes)
    with pytest.raises(DamagedFileError, match=words) as raised:
        store.check(path)
        store.provenance(path)
    assert path.name in str(raised.value)
    problems = verify_masks(store).problems
    assert [(problem.kind, problem.path) for problem in problems] == [("damaged", path)]
    assert {info.task for info in store.facts().infos()} <= set(range(5))
