"""Evaluation tables: written whole, read only when they are of this run."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import DamagedFileError, StaleFileError
from storage.tables import (
    EVALUATION_SCHEMA,
    INFERENCE_SCHEMA,
    UNDECIDED_SCHEMA,
    UNGAPPED_SCHEMA,
    given_table,
    read_evaluation,
    task_accuracies,
    task_shares,
    write_evaluation,
)

MASKS = "d" * 64
TABLE = pa.table(
    {
        "task": [0, 0, 1],
        "batch": [0, 1, 0],
        "first_image": [0, 128, 0],
        "num_images": [128, 72, 128],
        "inferred_task": pa.nulls(3, pa.int32()),
        "num_correct": [100, 50, 64],
    }
)


def test_accuracy_is_over_images_and_not_over_batches(tmp_path):
    path = tmp_path / "GG-2.parquet"
    write_evaluation(path, TABLE, {"fingerprint": "a", "k": "2", "masks": MASKS})
    assert pq.read_table(path).schema.metadata[b"supsup.k"] == b"2"
    table = read_evaluation(path, "a", MASKS)
    assert task_accuracies(table) == {0: 150 / 200, 1: 0.5}


@pytest.mark.parametrize(
    ("name", "is_right"),
    [("GG-2", True), ("GG-3", False), ("GNs-2", False), ("GG-2-b5", False), ("recovery-GG-2", False)],
)
def test_a_table_under_the_name_of_another_is_damaged(tmp_path, name, is_right):
    path = tmp_path / f"{name}.parquet"
    named = {"scenario": "GG", "algorithm": "", "objective": "", "images": "", "batches": "all", "k": "2"}
    write_evaluation(path, TABLE, {"fingerprint": "a", "masks": MASKS, **named})
    if is_right:
        assert len(read_evaluation(path, "a", MASKS)) == 3
        return
    with pytest.raises(
        DamagedFileError,
        match=r"is the table GG-2 by what it says itself|the columns of a table of another name",
    ):
        read_evaluation(path, "a", MASKS)


def test_a_foreign_or_damaged_table_is_refused(tmp_path):
    path = tmp_path / "GG-2.parquet"
    write_evaluation(path, TABLE, {"fingerprint": "a", "masks": MASKS})
    with pytest.raises(DamagedFileError, match="is not an evaluation table of run b"):
        read_evaluation(path, "b", MASKS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_evaluation(path, "a", MASKS)


def test_a_table_made_from_other_masks_is_stale(tmp_path):
    path = tmp_path / "GG-2.parquet"
    write_evaluation(path, TABLE, {"fingerprint": "a", "masks": MASKS})
    with pytest.raises(StaleFileError, match="was made from masks dddddddd; those of the run are eeeeeeee"):
        read_evaluation(path, "a", "e" * 64)
    assert read_evaluation(path, "a", None) == TABLE.cast(EVALUATION_SCHEMA)  # the masks are gone


def test_a_table_of_an_older_version_names_no_masks_and_is_stale(tmp_path):
    path = tmp_path / "GG-2.parquet"
    old = TABLE.cast(EVALUATION_SCHEMA).replace_schema_metadata({"supsup.fingerprint": "a"})
    pq.write_table(old, path)
    with pytest.raises(StaleFileError, match="was made from masks that it does not name"):
        read_evaluation(path, "a", MASKS)
    assert read_evaluation(path, "a", "") == TABLE.cast(
        EVALUATION_SCHEMA
    )  # of a baseline, which has no masks


def test_a_table_edited_with_its_metadata_kept_is_damaged(tmp_path):
    path = tmp_path / "GG-2.parquet"
    write_evaluation(path, TABLE, {"fingerprint": "a", "masks": MASKS})
    table = pq.read_table(path)
    pq.write_table(table.set_column(5, table.schema.field(5), pa.array([128, 72, 128], pa.int32())), path)
    with pytest.raises(DamagedFileError, match="its bytes do not match its checksum"):
        read_evaluation(path, "a", MASKS)


def test_a_table_with_the_task_given_has_a_row_per_batch():
    table = given_table(range(2), {0: [100, 50], 1: [120, 30], 2: [9]}, {0: 200, 1: 150, 2: 128})
    assert table.drop_columns(["inferred_task"]).to_pydict() == {
        "task": [0, 0, 1, 1],
        "batch": [0, 1, 0, 1],
        "first_image": [0, 128, 0, 128],
        "num_images": [128, 72, 128, 22],
        "num_correct": [100, 50, 120, 30],
    }
    assert task_accuracies(table) == {0: 150 / 200, 1: 1.0}


def test_shares_are_weighted_by_images():
    assert task_shares(TABLE, pa.chunked_array([[128, 0, 128]])) == {0: 128 / 200, 1: 1.0}


@pytest.mark.parametrize(
    ("num_more", "schema"), [(2, INFERENCE_SCHEMA), (1, UNDECIDED_SCHEMA), (0, UNGAPPED_SCHEMA)]
)
def test_a_table_of_inference_has_four_more_columns_or_fewer_as_before(tmp_path, num_more, schema):
    path = tmp_path / "GNu-one_shot-G-1-2.parquet"
    more = TABLE.append_column("rank", [pa.array([1, None, 2])]).append_column("exact_task", [pa.nulls(3)])
    if num_more:
        more = more.append_column("gap", [pa.array([0.5, None, -0.25])])
    if num_more == 2:
        more = more.append_column("deciding_image", [pa.array([5, 200, 7], pa.int32())])
    write_evaluation(path, more, {"fingerprint": "a", "masks": MASKS})
    table = read_evaluation(path, "a", MASKS)
    assert table.schema == schema
    assert table.schema.names[:6] == EVALUATION_SCHEMA.names
    assert table["rank"].to_pylist() == [1, None, 2]
