"""Parts of a table: what is on disk, readable and of these masks is done, and the whole table is the same."""

from dataclasses import replace

import numpy as np
import pytest

from core.data.test_rows import blank_rows
from storage.layout import RunLayout, TableKey
from storage.parts import PartsOf, drop_parts, stored_tasks, whole_table, write_part

BLANK = blank_rows(1, 200, None)
ROWS = replace(BLANK, exact_task=np.full_like(BLANK.batch, -1))


@pytest.fixture
def parts(tmp_path) -> PartsOf:
    return PartsOf(RunLayout(tmp_path), "f" * 64, TableKey("one_shot-G-1", 3), "8" * 64)


def write(parts, *tasks):
    write_part(parts, [(task, replace(ROWS, inferred_task=np.full_like(ROWS.batch, task))) for task in tasks])


def test_the_table_is_whole_once_every_task_is_there_and_has_each_once(parts):
    write(parts, 0)
    assert whole_table(parts) is None
    write(parts, 0, 1)  # a worker that finished late
    write(parts, 2)
    assert stored_tasks(parts) == {0, 1, 2}
    table = whole_table(parts)
    assert table["task"].to_pylist() == table["inferred_task"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert table["num_images"].to_pylist() == [128, 72] * 3


def test_what_was_not_found_out_is_null(parts):
    write(parts, 0, 1, 2)
    table = whole_table(parts)
    for name in ("rank", "gap", "exact_task"):
        assert table[name].null_count == len(table)


def test_parts_that_are_damaged_or_of_other_masks_are_made_again(parts):
    write(parts, 0, 1)
    write(replace(parts, masks="0" * 64), 2)
    assert stored_tasks(parts) == {0, 1}
    path = parts.layout.evaluation_part(parts.key, 0, 1)
    path.write_bytes(path.read_bytes()[:-9])
    assert stored_tasks(parts) == set()


def test_parts_go_with_their_folder_and_leave_those_of_other_tables(parts):
    other = replace(parts, key=TableKey("binary-G-1", 3))
    write(parts, 0)
    write(other, 1)
    drop_parts(parts)
    assert (stored_tasks(parts), stored_tasks(other)) == (set(), {1})
    drop_parts(other)
    assert list(parts.layout.evaluations.iterdir()) == []
