"""A worker runs the user's own network only if it is the one that the run was made with."""

import sys
from dataclasses import replace

import pytest

from core.errors import ForeignWorkerError
from core.own_code.permission import ALLOW_CODE
from orchestrator.config.load import load_sweep
from orchestrator.execution.jobs import WorkerSetup
from orchestrator.runs.run import locate_run
from orchestrator.worker.worker import Worker
from tests.conftest import sweep_text

NET = """
from torch import nn
from worker_blocks import act

def small(outputs, shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), act(), nn.Linear(16, outputs))
"""
BLOCKS = "from torch import nn\nact = nn.ReLU\n"


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """Return the setup of a worker, which starts in another folder, without the permission."""
    code, elsewhere = tmp_path / "code", tmp_path / "elsewhere"
    code.mkdir()
    elsewhere.mkdir()
    (code / "worker_net.py").write_text(NET)
    (code / "worker_blocks.py").write_text(BLOCKS)
    monkeypatch.chdir(code)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(ALLOW_CODE, "1")
    lines = {
        "network": '{kind: module, import_path: "worker_net:small", outputs: 8}',
        "mask": "{rule: top_k, density: 0.3}",
    }
    (code / "tiny.yaml").write_text(sweep_text(tmp_path / "runs", **lines))
    run = locate_run(load_sweep(code / "tiny.yaml"))
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(code)])
    monkeypatch.delenv(ALLOW_CODE)
    for name in ("worker_net", "worker_blocks"):
        sys.modules.pop(name, None)
    yield WorkerSetup(
        spec=run.config.run_spec(), layout=run.layout, identity=run.identity, engine="eager", device="cpu",
        num_threads=1, test_batches=None, cohort_size=1, provenance={}, code_digests={"network.import_path": run.identity.network["code"]}, code_folder=str(code),
    )  # fmt: skip
    for name in ("worker_net", "worker_blocks"):
        sys.modules.pop(name, None)


def test_a_worker_finds_the_code_and_allows_that_alone(setup, monkeypatch):
    import os

    worker = Worker(setup, dataset=None)
    assert os.environ[ALLOW_CODE] == setup.identity.network["code"]
    assert worker._context.problem.module.masked == ("1.weight", "3.weight")


@pytest.mark.parametrize("file", ["worker_net.py", "worker_blocks.py"])
def test_other_code_on_a_node_is_refused_before_it_runs(setup, tmp_path, file):
    path = tmp_path / "code" / file
    path.write_text(path.read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ForeignWorkerError, match="is not the code that the run was made with"):
        Worker(setup, dataset=None)
    assert not (tmp_path / "ran").exists()


def test_a_worker_without_the_permission_runs_nothing(setup):
    with pytest.raises(Exception, match=r"network\.import_path"):
        _ = Worker(replace(setup, code_digests={}), dataset=None)._context.problem.module
    assert "worker_net" not in sys.modules
