"""Who holds a run in a folder: told in words, free once nobody does, also after an error."""

import json
import os

import pytest
from filelock import FileLock

from core.errors import RunFolderError, RunLockedError
from orchestrator.runs import lock
from orchestrator.runs.lock import is_locked, lock_holder, locked
from storage.layout import RunLayout, host_name


@pytest.fixture
def layout(tmp_path):
    return RunLayout(tmp_path / "run")


def test_a_second_controller_is_told_who_holds_the_run(layout):
    with locked(layout):
        words = f"already running: .* is held by process {os.getpid()} on {host_name()}"
        with pytest.raises(RunLockedError, match=words), locked(layout):
            pass
    assert lock_holder(layout) == "another process"
    with locked(layout):
        pass


def test_a_lock_is_let_go_after_an_error_and_not_left_to_the_garbage_collector(layout, monkeypatch):
    made = []
    monkeypatch.setattr(
        lock, "FileLock", lambda *args, **options: made.append(FileLock(*args, **options)) or made[-1]
    )
    with pytest.raises(ValueError, match="of the work"), locked(layout):
        raise ValueError("of the work")
    assert not is_locked(layout)
    assert not any(one.is_locked for one in made)


def test_to_ask_whether_a_run_is_locked_writes_nothing(layout):
    assert not is_locked(layout)
    assert not layout.root.exists()
    layout.root.mkdir()
    assert not is_locked(layout)
    assert list(layout.root.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_with_its_reason(tmp_path):
    (tmp_path / "file").touch()
    words = r"cannot use the run folder .*/file/run \(Not a directory\); see storage\.uri"
    with pytest.raises(RunFolderError, match=words), locked(RunLayout(tmp_path / "file" / "run")):
        pass


def test_a_lock_that_cannot_be_opened_counts_as_held(layout):
    layout.lock.mkdir(parents=True)
    assert is_locked(layout)
    with pytest.raises(RunFolderError, match=r"\(Is a directory\)"), locked(layout):
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"process_id": 7, "host": "node-1"}, "process 7 on node-1"),
        ({"process_id": 7}, "another process"),
        ([7, "node-1"], "another process"),
        (None, "another process"),
    ],
    ids=("holder", "no host", "list", "null"),
)
def test_the_holder_is_told_as_far_as_the_lock_can_be_read(layout, content, words):
    assert lock_holder(layout) == "another process"  # no lock at all
    layout.root.mkdir()
    layout.lock.write_text(json.dumps(content))
    assert lock_holder(layout) == words


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000 + "]" * 100_000], ids=("none", "cut", "deep"))
def test_a_damaged_lock_names_nobody(layout, content):
    layout.root.mkdir()
    layout.lock.write_text(content)
    assert lock_holder(layout) == "another process"
