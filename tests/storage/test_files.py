"""Files are there whole or not at all."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import DamagedFileError
from storage.files import commit, commit_json, commit_text, read_sealed, remove_temporaries, temporaries
from tests.storage.pages import spoil_page_checksum


def test_commit_replaces_whole_files(tmp_path):
    target = tmp_path / "folder" / "file.txt"
    commit_text(target, "old")
    commit_text(target, "new")
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file.txt"
    commit_text(target, "old")

    def write(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        commit(target, write)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("is_named", [False, True])
def test_a_full_disk_is_reported_with_the_file_not_its_temporary(tmp_path, is_named):
    def write(path):
        raise OSError(28, "disk full", *[str(path)] * is_named)

    with pytest.raises(OSError, match="disk full") as raised:
        commit(tmp_path / "file.txt", write)
    assert raised.value.filename == str(tmp_path / "file.txt")


def test_order_is_write_sync_rename_sync_folder(tmp_path, monkeypatch):
    """The order is what makes it safe, so the calls to the system are watched."""
    events, target = [], tmp_path / "file.txt"

    def fsync(descriptor):
        events.append((Path(f"/proc/self/fd/{descriptor}").readlink(), target.exists()))

    monkeypatch.setattr("os.fsync", fsync)
    commit_text(target, "x")
    (temporary, before), (folder, after) = events
    assert temporary.name.startswith(".file.txt.")
    assert (before, folder, after) == (False, tmp_path, True)
    assert target.read_text() == "x"


def test_a_file_without_a_seal_is_verified_by_its_pages(tmp_path):
    path, table = tmp_path / "old.parquet", pa.table({"task": [1, 2, 3]})
    pq.write_table(table, path, write_page_checksum=True)
    assert read_sealed(path)[0] == table
    spoil_page_checksum(path, "task")
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_sealed(path)


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="nan"):
        commit_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_only_temporaries_of_dead_writers_go(tmp_path):
    names = [".a.host.11.0123abcd.tmp", ".b.host.12.0123abcd.tmp", ".hidden", "plain.tmp"]
    for name in names:
        (tmp_path / name).write_text("")
    assert [path.name for path in temporaries(tmp_path)] == names[:2]
    removed = remove_temporaries(tmp_path, lambda host, process_id, path: process_id == 12)
    assert [path.name for path in removed] == names[:1]
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])
