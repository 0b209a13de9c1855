"""Jobs of a cluster, as `supsup status --address` lists them."""

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

import orchestrator.cli.job_list
from orchestrator.cli.job_list import print_jobs
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.status import run_status
from orchestrator.sweep import run_sweep
from tests.orchestrator.fakes import Recorder

ID = "permuted_2500_of_a_long_name-0123abcd-ffeedd"


@pytest.fixture
def listed(monkeypatch):
    """Return a function that lists jobs, given as the facts that Ray has, on a screen of 80 columns."""
    from orchestrator.cluster import jobs

    def show(**facts):
        usual = {
            "submission_id": ID,
            "status": jobs.JobStatus.RUNNING,
            "start_time": 1_700_000_000_000,
            "message": "Job is currently running.",
            "metadata": {"supsup": ID},
            "driver_exit_code": None,
        }
        client = SimpleNamespace(list_jobs=lambda: [SimpleNamespace(**usual | facts)] if facts else [])
        monkeypatch.setattr(jobs, "_client", lambda address: client)
        screen = io.StringIO()
        print_jobs(Console(file=screen, width=80), "http://head:8265", None)
        lines = screen.getvalue().splitlines()
        assert all(len(line) <= 80 for line in lines if "run folder" not in line)
        return lines

    return show


def test_a_job_of_a_run_shows_tasks_rate_time_left_and_folder(listed, sweep, monkeypatch):
    config = load_sweep(sweep)
    run_sweep(config, None, Recorder())
    root = locate_run(config).layout.root

    def busy(folder):
        found = run_status(folder)
        progress = replace(found.progress, done=frozenset({0, 1, 2}))
        return replace(found, progress=progress, holder="someone", tasks_per_min=30.0)

    monkeypatch.setattr(orchestrator.cli.job_list, "run_status", busy)
    lines = listed(metadata={"supsup": ID, "folder": str(root)})
    assert lines[0] == ID
    text = " ".join(line.strip() for line in lines[1:-1])
    assert text.startswith("running, started 2023-11-1")
    assert text.endswith("3 of 4 tasks done, 30.0/min, ETA 0:02")
    assert lines[-1] == f"  run folder {root}"


def test_a_job_whose_folder_is_unknown_or_out_of_reach_is_listed_all_the_same(listed, tmp_path):
    assert "run folder" not in " ".join(listed(metadata={"supsup": ID}))
    lines = listed(metadata={"supsup": ID, "folder": str(tmp_path / "elsewhere")})
    assert lines[-1] == f"  run folder {tmp_path / 'elsewhere'}"
    assert " done" not in " ".join(lines)
    assert listed() == ["no supsup jobs on http://head:8265"]


def test_a_failed_job_shows_its_exit_code_and_what_ray_says(listed):
    from orchestrator.cluster.jobs import JobStatus

    message = "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000):"
    lines = listed(status=JobStatus.FAILED, driver_exit_code=2, message=f"{message}\nmany lines")
    assert "failed with exit code 2, started 2023" in lines[1]
    assert " ".join(line.strip() for line in lines[2:]) == f"Ray: {message}"
