"""Who holds a run: told in words, free once nobody does, also where its holder has died."""

import json
import os
import time

import pytest

from core.errors import RunLockedError
from orchestrator.runs.lock import is_locked, lock_holder, locked
from storage.layout import RunLayout, host_name
from storage.locations import ObjectPath, to_location


def test_a_second_controller_is_told_who_holds_the_run(tmp_path):
    layout = RunLayout(tmp_path / "run")
    with locked(layout):
        words = f"already running: .* is held by process {os.getpid()} on {host_name()}"
        with pytest.raises(RunLockedError, match=words), locked(layout):
            pass
    assert lock_holder(layout) == "another process"
    with locked(layout):
        pass


@pytest.mark.parametrize(
    ("host", "process_id", "age_s", "is_held"),
    [
        (host_name(), os.getpid(), 0.0, True),
        (host_name(), 2**22 + 1, 0.0, False),  # larger than any process id
        ("elsewhere", 1, 0.0, True),
        ("elsewhere", 1, 30.0, False),
        ("elsewhere", "1", 0.0, False),
        (None, 1, 0.0, False),
    ],
    ids=(
        "ours",
        "ended",
        "elsewhere",
        "old",
        "no number",
        "no host",
    ),  # the same in each process of the tests
)
def test_a_lease_is_held_while_its_holder_lives_and_renews_it(monkeypatch, host, process_id, age_s, is_held):
    holder = {"host": host, "process_id": process_id, "renewed_s": time.time() - age_s}
    monkeypatch.setattr(ObjectPath, "read_bytes", lambda _: json.dumps(holder).encode())
    assert is_locked(RunLayout(to_location("s3://bucket/run"))) == is_held
