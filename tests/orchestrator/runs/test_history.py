"""Damaged records of sessions, failures, samples and locks: refused by name, or as if they were not there."""

import pytest

from core.data.datasets import load_dataset
from core.errors import DamagedFileError, RunFolderError
from orchestrator.config.load import load_sweep
from orchestrator.runs.history import read_failures, read_sessions
from orchestrator.runs.lock import lock_holder
from orchestrator.runs.record import ensure_record
from orchestrator.runs.results import read_results
from orchestrator.runs.run import locate_run
from orchestrator.runs.search_file import known_search
from orchestrator.tracking.samples import read_samples
from tests.orchestrator.fakes import resources_of

WRONG = {
    "garbage": "{{{",
    "numbers": "[1,2]",
    "object": "{}",
    "null": "null",
    "deep": "[" * 100_000 + "]" * 100_000,
    "bytes": b"\xff\xfe\x00",
    "keys": '[{"task": "x"}]',
    "values": '[{"task": -1, "error": null, "kind": 3}]',
}


@pytest.fixture
def run(sweep):
    run = locate_run(load_sweep(sweep))
    resources = resources_of(num_workers=1)
    ensure_record(run, resources, load_dataset("synthetic"))
    return run


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_any_wrong_json_is_met_calmly(run, content):
    content = content.encode() if isinstance(content, str) else content
    layout = run.layout
    layout.report.mkdir()
    for path in (layout.failures, layout.sessions, layout.system, layout.lock, layout.summary):
        path.write_bytes(content)
    (layout.root / "search.json").write_bytes(content)
    assert read_sessions(layout) == []
    assert read_samples(layout) == []
    assert lock_holder(layout) == "another process"
    assert not list(read_results(run))
    assert known_search(layout.root).points == []
    with pytest.raises(DamagedFileError, match=r"failures\.json cannot be read .*; remove it") as raised:
        read_failures(run)
    assert isinstance(raised.value, RunFolderError)  # exit code 2
