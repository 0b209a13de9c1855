"""Object paths on a real S3-compatible server: what pathlib does, and what replaces rename."""

import copy
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import storage.locations
from core.errors import ConfigError
from storage.files import commit, commit_bytes, commit_json, temporaries
from storage.layout import RunLayout
from storage.locations import (
    ObjectPath,
    entries,
    is_location,
    listed,
    local_copy,
    move,
    remove_tree,
    to_location,
)


@pytest.fixture
def root(s3_storage) -> ObjectPath:
    place = to_location(s3_storage)
    assert isinstance(place, ObjectPath)
    return place


def test_names_are_those_of_paths():
    place = to_location("s3://bucket/runs/tiny-1/?region=eu-west-1")
    assert str(place) == "s3://bucket/runs/tiny-1"
    assert copy.deepcopy(place) == place
    file = place / "masks" / "cohort-00000-00001.parquet"
    plain = Path("/runs/tiny-1/masks/cohort-00000-00001.parquet")
    assert (file.name, file.stem, file.parent.name) == (plain.name, plain.stem, plain.parent.name)
    assert file.with_stem("a").name == plain.with_stem("a").name
    assert file.with_name("b.json") == place / "masks" / "b.json"
    assert file.parent.parent == place


def test_a_place_is_a_path_or_a_bucket_without_credentials():
    assert all(is_location(uri) for uri in ("runs", "/a/b", "~/x", "s3://b", "s3://b/a/c", "gs://b/c?x=1"))
    assert not any(
        is_location(uri)
        for uri in ("", " ", "s3://", "s3:///x", "s3://key:word@b/c", "ftp://a/b", "s3://b/../c", "s3://b/..")
    )
    assert to_location("runs") == Path("runs").absolute()


def test_a_path_that_is_not_utf8_is_refused_with_what_to_do():
    with pytest.raises(ConfigError, match=r"its name is not UTF-8; rename the folder, or set storage\.uri"):
        to_location("runs/\udcff")


def test_only_patterns_with_folders_list_what_is_below_them(monkeypatch):
    """A run has thousands of masks, which a listing of what is above them need not ask for."""
    asked = []

    class Store:
        def get_file_info(self, selector):
            asked.append(selector.recursive)
            return []

    monkeypatch.setattr(storage.locations, "connect", lambda *_: Store())
    for pattern in ("*.json", "*/run.json"):
        assert listed(to_location("s3://bucket/runs"), pattern) == []
    assert asked == [False, True]


def test_a_file_that_a_library_writes_becomes_an_object(root):
    commit(root / "a" / "b.bin", lambda path: path.write_bytes(path.name.encode()))
    assert (root / "a" / "b.bin").read_bytes() == b"b.bin"


def test_an_object_is_written_read_listed_moved_and_removed(root):
    file = root / "a" / "one.json"
    assert not file.exists()
    assert listed(root) == []
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    commit_json(file, {"x": 1})
    commit_bytes(root / "a" / "two.bin", b"\x00" * 3)
    commit_bytes(root / "run.json", b"{}")
    assert file.is_file()
    assert (root / "a").is_dir()
    assert file.read_text() == '{\n  "x": 1\n}\n'
    assert [path.name for path in listed(root / "a")] == ["one.json", "two.bin"]
    assert [(one.name, one.num_bytes) for one in entries(root / "a")] == [("one.json", 13), ("two.bin", 3)]
    assert "run.json" in {one.name for one in entries(root)}
    assert entries(root / "none") == []
    assert listed(root, "*/*.bin") == [root / "a" / "two.bin"]
    assert listed(root.parent, f"{root.name}/run.json") == [root / "run.json"]
    with local_copy(file) as local:
        assert local.name == "one.json"
        assert local.read_bytes() == file.read_bytes()
    move(file, root / "b" / "one.json")
    assert not file.exists()
    assert (root / "b" / "one.json").exists()
    remove_tree(root / "a")
    assert listed(root / "a") == []
    (root / "none").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (root / "none").unlink()


def test_a_failed_write_leaves_the_old_object(root, monkeypatch):
    """Closing a stream after a failed write would make an object of the half that is there."""
    file = root / "x"
    file.write_bytes(b"old")

    class Failing:
        def __init__(self, stream):
            self._stream = stream

        def write(self, content):
            self._stream.write(content[:1])
            raise OSError("no space")

    class Store:
        def open_output_stream(self, key, compression):
            class Sink:
                def write(self, content):
                    pass

            return Failing(Sink())

    monkeypatch.setattr(storage.locations, "connect", lambda *_: Store())
    with pytest.raises(OSError, match="no space"):
        commit_bytes(file, b"new content")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_old_object_or_the_new_one(root):
    file, num_bytes, draw = root / "big", 12_000_000, random.Random(3)
    file.write_bytes(b"a" * num_bytes)
    code = """
        import sys
        from storage.locations import to_location
        file = to_location(sys.argv[1])
        print("ready", flush=True)
        for letter in b"bcdefghijklmnopqrstuvwxyz" * 99:
            file.write_bytes(bytes([letter]) * int(sys.argv[2]))
    """
    seen = set()
    for _ in range(6):
        arguments = [sys.executable, "-c", textwrap.dedent(code), str(file), str(num_bytes)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(draw.uniform(0.05, 1.0))
            writer.send_signal(signal.SIGKILL)
        content = file.read_bytes()
        assert len(content) == num_bytes
        assert len(set(content)) == 1
        seen.add(content[:1])
    assert len(seen) > 1, "no write was ever completed"


def test_a_run_in_a_store_has_no_temporaries_and_its_bank_on_this_machine(root, tmp_path, monkeypatch):
    monkeypatch.setenv("SUPSUP_CACHE", str(tmp_path))
    layout = RunLayout(root)
    assert temporaries(root) == []
    assert layout.bank(3, "0123456789") == tmp_path / "banks" / root.name / "masks-00003-01234567.npy"
