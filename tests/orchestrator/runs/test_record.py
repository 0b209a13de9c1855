"""What ``run.json`` says beyond the sweep, and whose temporary files are removed."""

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from core.data.datasets import load_dataset
from orchestrator.config.load import load_sweep
from orchestrator.runs import record as records
from orchestrator.runs.record import (
    clean_temporaries,
    ensure_record,
    fitting,
    git_commit,
    package_version,
    processor,
    remember_fitting,
)
from orchestrator.runs.run import locate_run
from storage.layout import RunLayout, temporary_path
from storage.run_file import read_run, write_run
from tests.orchestrator.fakes import resources_of

WRITTEN_S = 1_000_000.0
DAY_S = 24 * 3600.0


@pytest.fixture
def run(sweep):
    run = locate_run(load_sweep(sweep))
    ensure_record(run, resources_of(), load_dataset("synthetic"))
    return run


@pytest.mark.parametrize(
    ("found", "known"),
    [
        ({"cpu": 1, "H100": 40}, {"cpu": 1, "H100": 40}),
        ({"cpu": 0, "H100": -3, "T4": 2}, {"T4": 2}),
        ({"cpu": True, "H100": 2.0, "T4": "2", "A100": None}, {}),
        ([["cpu", 1]], {}),
        ("cpu", {}),
        (None, {}),
    ],
    ids=("good", "too few", "other types", "list", "text", "null"),
)
def test_only_counts_of_tasks_are_taken_from_a_record(found, known):
    assert fitting(SimpleNamespace(provenance={"fitting": found})) == known


def test_the_fewest_tasks_that_fit_on_a_device_are_remembered(run, monkeypatch):
    before, written = read_run(run.layout), []
    assert fitting(before) == {}
    monkeypatch.setattr(records, "write_run", lambda *args: (written.append(args), write_run(*args)))
    for device, num_tasks in [("cpu", 4), ("cpu", 5), ("cpu", 4), ("H100", 40), ("cpu", 3)]:
        remember_fitting(run.layout, device, num_tasks)
    record = read_run(run.layout)
    assert fitting(record) == {"cpu": 3, "H100": 40}
    assert len(written) == 3  # nothing new, nothing written
    assert replace(record, provenance=before.provenance) == before
    assert record.provenance == before.provenance | {"fitting": {"cpu": 3, "H100": 40}}


def test_counts_that_mean_nothing_are_replaced(run):
    record = read_run(run.layout)
    write_run(run.layout, replace(record, provenance=record.provenance | {"fitting": {"cpu": "many"}}))
    remember_fitting(run.layout, "cpu", 9)
    assert fitting(read_run(run.layout)) == {"cpu": 9}


@dataclass
class Process:
    """A process as psutil tells of it."""

    started_s: float
    state: str = psutil.STATUS_SLEEPING

    def create_time(self):
        return self.started_s

    def status(self):
        return self.state


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Return a temporary file that process 7 of machine ``writer`` wrote at WRITTEN_S."""
    with monkeypatch.context() as there:
        there.setattr("storage.layout.host_name", lambda: "writer")
        there.setattr(os, "getpid", lambda: 7)
        path = temporary_path(tmp_path / "masks" / "cohort-00000-00001.parquet")
    path.parent.mkdir()
    path.touch()
    os.utime(path, (WRITTEN_S, WRITTEN_S))
    return path


def is_kept(temporary):
    removed = clean_temporaries(RunLayout(temporary.parents[1]))
    assert removed == ([] if temporary.exists() else [temporary])
    return removed == []


@pytest.mark.parametrize(
    ("process", "kept"),
    [
        (Process(WRITTEN_S - DAY_S), True),
        (Process(WRITTEN_S + 1.0), True),  # file systems and kernels round times
        (Process(WRITTEN_S + 1.5), False),
        (Process(WRITTEN_S - DAY_S, psutil.STATUS_RUNNING), True),
        (Process(WRITTEN_S - DAY_S, psutil.STATUS_STOPPED), True),
        (Process(WRITTEN_S - DAY_S, psutil.STATUS_ZOMBIE), False),
        (None, False),
    ],
    ids=("sleeping", "just started", "its id is another's now", "running", "stopped", "zombie", "ended"),
)
def test_temporaries_of_this_machine_are_kept_while_their_writer_lives(temporary, monkeypatch, process, kept):
    def find(process_id):
        assert process_id == 7
        if process is None:
            raise psutil.NoSuchProcess(process_id)
        return process

    monkeypatch.setattr(records, "host_name", lambda: "writer")
    monkeypatch.setattr(psutil, "Process", find)
    assert is_kept(temporary) == kept


@pytest.mark.parametrize(("age_s", "kept"), [(0.0, True), (DAY_S - 1.0, True), (DAY_S, False)])
def test_temporaries_of_another_machine_are_kept_for_a_day(temporary, monkeypatch, age_s, kept):
    monkeypatch.setattr(records, "host_name", lambda: "here")
    monkeypatch.setattr(records.time, "time", lambda: WRITTEN_S + age_s)
    assert is_kept(temporary) == kept


def test_a_temporary_that_vanishes_meanwhile_is_its_writers_own_matter(temporary, monkeypatch):
    monkeypatch.setattr("storage.files.temporaries", lambda _: [temporary])
    temporary.unlink()
    assert clean_temporaries(RunLayout(temporary.parents[1])) == []


def test_a_package_that_is_missing_has_no_version():
    assert package_version("numpy")
    assert package_version("no-such-package") is None


@pytest.mark.parametrize(
    ("shown", "commit"),
    [
        ("ab12\n", "ab12"),
        ("ab12+changes\n", "ab12+changes"),
        ("", None),
        (FileNotFoundError("git"), None),
        (subprocess.TimeoutExpired("git", 10), None),
    ],
    ids=("clean", "changed", "refused", "no git", "no answer"),
)
def test_the_commit_is_named_where_git_tells_it(tmp_path, monkeypatch, shown, commit):
    def run_git(command, **options):
        assert command[:3] == ["git", "-C", str(tmp_path)]
        assert options["timeout"] <= 10
        if isinstance(shown, Exception):
            raise shown
        return subprocess.CompletedProcess(command, 0, stdout=shown)

    monkeypatch.setattr(records, "__file__", str(tmp_path / "orchestrator" / "runs" / "record.py"))
    monkeypatch.setattr(subprocess, "run", run_git)
    (tmp_path / ".git").mkdir()
    assert git_commit() == commit


def test_outside_a_checkout_git_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "__file__", str(tmp_path / "orchestrator" / "runs" / "record.py"))
    monkeypatch.setattr(subprocess, "run", None)
    assert git_commit() is None


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: Fast CPU @ 2: 5 GHz\nmodel name\t: Other\n", "Fast CPU @ 2: 5 GHz"),
        ("processor\t: 0\n", "arm"),
        (None, "arm"),
    ],
    ids=("named", "nameless", "no file"),
)
def test_the_processor_is_named_by_the_kernel_or_by_python(monkeypatch, cpuinfo, name):
    def read_text(path):
        assert path == Path("/proc/cpuinfo")
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return cpuinfo

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(records.platform, "processor", lambda: "arm")
    assert processor() == name
