"""Which folder a sweep means, and what is fixed when it is made."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from core.data.datasets import load_dataset
from core.errors import RunFolderError
from orchestrator.config.load import load_sweep
from orchestrator.runs.lock import is_locked, locked
from orchestrator.runs.record import ensure_record, git_commit, provenance
from orchestrator.runs.run import locate_run, open_run
from orchestrator.status import find_runs, resolve_run
from orchestrator.tracking.server import _environment
from storage.run_file import write_run
from tests.orchestrator.fakes import resources_of

DATA = load_dataset("synthetic")
FEW = resources_of(num_workers=1)
MANY = resources_of(num_workers=4)


def test_locating_a_run_touches_nothing(sweep, tmp_path):
    run = locate_run(load_sweep(sweep))
    assert run.layout.root == tmp_path / "runs" / f"tiny-{run.fingerprint[:8]}"
    assert not run.layout.root.parent.exists()


def test_cohort_size_and_engine_are_fixed_when_the_run_is_made(sweep):
    settings = ["training.cohort_size=auto"]
    run = locate_run(load_sweep(sweep, settings))
    assert ensure_record(run, FEW, DATA).cohort_size == 4
    assert ensure_record(run, MANY, DATA).cohort_size == 4  # a resume on a larger machine
    assert ensure_record(run, MANY, DATA).engine == "fused"


def test_a_long_run_on_gpus_trains_with_triton_in_cohorts_that_fill_one(sweep):
    long = [
        "benchmark.num_tasks=2400",
        "training.steps=100000",
        "training.cohort_size=auto",
        "evaluation.at=null",
    ]
    gpu = resources_of(gpus_per_worker=1.0, free_bytes=10**11)
    record = ensure_record(locate_run(load_sweep(sweep, long)), gpu, DATA)
    assert (record.engine, record.cohort_size) == ("triton", 480)
    exact = [*long, "mask.rule=top_k", "mask.density=0.5"]
    assert ensure_record(locate_run(load_sweep(sweep, exact)), gpu, DATA).engine == "eager"


@pytest.mark.parametrize(
    ("settings", "on_gpu", "engine"),
    [
        ([], False, "fused"),
        ([], True, "eager"),  # far too little work to compile
        (["training.optimizer.state=bfloat16"], False, "eager"),
        (["executor.engine=compiled"], False, "compiled"),
    ],
)
def test_auto_takes_the_engine_that_is_fastest_there(sweep, settings, on_gpu, engine):
    run = locate_run(load_sweep(sweep, settings))
    resources = resources_of(gpus_per_worker=float(on_gpu), free_bytes=10**10)
    assert ensure_record(run, resources, DATA).engine == engine


def test_a_run_of_an_older_recipe_can_be_read_and_is_not_trained_further(sweep):
    config = load_sweep(sweep)
    old, new = locate_run(config, recipe=1), locate_run(config)
    assert old.layout.root != new.layout.root
    old.layout.root.mkdir(parents=True)
    ensure_record(old, FEW, DATA)
    assert open_run(old.layout.root)[0].fingerprint == old.fingerprint


def test_num_tasks_grows_and_never_shrinks(sweep):
    sizes = []
    for num_tasks in (4, 9, 2):
        run = locate_run(load_sweep(sweep, [f"benchmark.num_tasks={num_tasks}", "evaluation.at=null"]))
        sizes.append(ensure_record(run, FEW, DATA).num_tasks)
    assert sizes == [4, 9, 9]


def test_a_run_goes_on_only_on_the_data_it_was_made_on(sweep):
    run = locate_run(load_sweep(sweep))
    assert ensure_record(run, FEW, DATA).provenance["dataset_digest"] == DATA.digest()
    others = replace(DATA, test_labels=DATA.test_labels[::-1].copy())
    with pytest.raises(RunFolderError, match="was made with synthetic of digest"):
        ensure_record(run, FEW, others)


def test_a_password_in_a_stored_sweep_of_before_is_left_out(sweep):
    run = locate_run(load_sweep(sweep))
    record = ensure_record(run, FEW, DATA)
    tracking = {**record.config["tracking"], "uri": "http://me:WORD@127.0.0.1:5000"}
    write_run(run.layout, replace(record, config={**record.config, "tracking": tracking}))
    opened, _ = open_run(run.layout.root)
    assert opened.config.tracking.uri == "http://me@127.0.0.1:5000"


def test_a_lock_is_seen_only_while_it_is_held(sweep):
    layout = locate_run(load_sweep(sweep)).layout
    assert not is_locked(layout)
    with locked(layout):
        assert is_locked(layout)
    assert not is_locked(layout)


def test_run_names_resolve_by_path_and_by_name(sweep, tmp_path):
    run = locate_run(load_sweep(sweep))
    ensure_record(run, FEW, DATA)
    assert find_runs(tmp_path / "runs") == [run.layout.root]
    assert resolve_run(run.name, tmp_path / "runs") == run.layout.root
    assert resolve_run(str(run.layout.root), Path("elsewhere")) == run.layout.root


def test_provenance_names_versions_and_processor():
    found = provenance()
    assert found["torch"]
    assert found["ray"]
    assert found["processor"]
    assert found["cores"] >= 1
    commit = git_commit()
    assert commit is None or len(commit.removesuffix("+changes")) == 40


def test_the_ui_server_is_kept_to_loopback_names_and_sends_nothing_home():
    environment = _environment(5001)
    assert environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")[:2] == ["localhost:5001", "127.0.0.1:5001"]
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["PATH"] == os.environ["PATH"]
