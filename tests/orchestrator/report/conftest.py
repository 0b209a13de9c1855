"""A small run with its report."""

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = folder / "tiny.yaml"
    path.write_text(
        sweep_text(
            folder / "runs",
            tracking="{uri: null, figures: true}",
            evaluation="{scenarios: [GG, GNu], at: [2, 4]}",
        )
    )
    config = load_sweep(path)
    run_sweep(config, None, Recorder())
    return locate_run(config)
