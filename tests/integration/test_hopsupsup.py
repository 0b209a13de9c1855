"""HopSupSup through the command line: masks, a memory of fixed size, recovery without the masks."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.history import read_sessions
from orchestrator.runs.run import locate_run
from orchestrator.session import StoppedError
from orchestrator.sweep import run_sweep
from orchestrator.worker import recovered as recovery_work
from storage.summary import read_summary
from tests.conftest import supsup, sweep_text
from tests.integration.test_streams import StopAfter
from tests.orchestrator.fakes import Recorder

LINES = {
    "name": "hop",
    "benchmark": "{kind: split, dataset: digits, num_tasks: 5}",
    "network": "{kind: bn_mlp, hidden: [512, 512], outputs: 10}",
    "training": "{epochs: 5, batch_size: 32, optimizer: {kind: sgd}, cohort_size: 2}",
    "tracking": "{uri: null}",
    "evaluation": "{scenarios: [GG, GNs], hopfield: {batch_size: 16, lr: 200.0, gamma: 1.5e-2}}",
}


def write_sweep(folder, name="runs"):
    path = folder / f"{name}.yaml"
    path.write_text(sweep_text(folder / name, **LINES))
    return path


def measured(run):
    return read_summary(run.layout.summary)[0]


def task_sizes(table) -> dict[int, int]:
    sums = table.group_by("task").aggregate([("num_images", "sum")])
    return dict(zip(sums["task"].to_pylist(), sums["num_images_sum"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a whole run, made once; only looked at."""
    path = write_sweep(tmp_path_factory.mktemp("undisturbed"))
    assert supsup("run", path) == 0
    return locate_run(load_sweep(path))


@pytest.fixture
def run(undisturbed, tmp_path):
    """Return a copy of the whole run, for a test that changes it."""
    path = write_sweep(tmp_path)
    shutil.copytree(undisturbed.layout.root.parent, tmp_path / path.stem)
    return locate_run(load_sweep(path))


def test_a_run_reports_recovery_beside_the_true_masks(run):
    label = run.config.evaluation.method.label
    found = measured(run)["GNs"][label]["5"]
    assert found["given_accuracy"] > 0.9
    assert 0.5 < found["accuracy"] <= found["given_accuracy"] + 0.02
    assert found["recovered"] >= 0.4
    assert 0 < found["mean_steps"] <= found["most_steps"] <= 30
    assert found["mask_bytes"] == 128
    assert found["psi_bytes"] == 2 * 4 * (512**2 + 512)
    assert found["break_even_tasks"] == -(-found["psi_bytes"] // 128)
    steps = pq.read_table(run.layout.evaluations / f"recovery-{label}-5.parquet")
    assert len(steps) == 5 * 31
    scored = pq.read_table(run.layout.evaluations / f"GNs-{label}-5.parquet").to_pylist()
    sizes = task_sizes(pq.read_table(run.layout.evaluations / "GG-5.parquet"))
    # Every other image of each task was adapted on.
    assert task_sizes(pa.Table.from_pylist(scored)) == {task: size // 2 for task, size in sizes.items()}
    assert {row["first_image"] % 2 for row in scored} == {1}
    assert (run.layout.report / f"recovery-{label}-5.png").exists()


def test_with_the_masks_thrown_away_recovery_gives_the_same_answers(run, capsys):
    label = run.config.evaluation.method.label
    with_masks = measured(run)["GNs"][label]["5"]["accuracy"]
    shutil.rmtree(run.layout.masks)
    shutil.rmtree(run.layout.evaluations)
    run.layout.summary.unlink()
    facts = run.layout.tasks.read_bytes()
    assert supsup("evaluate", run.layout.root) == 1  # GG needs the masks
    found = measured(run)["GNs"][label]["5"]
    assert found["accuracy"] == with_masks
    assert "given_accuracy" not in found  # nothing is left to compare with
    assert "recovered" not in found
    assert not run.layout.masks.exists()
    assert run.layout.tasks.read_bytes() == facts
    shown = capsys.readouterr().out
    assert "GG not evaluated at k = 5: 5 tasks are trained, the masks of tasks 0-4 are missing\n" in shown
    assert "GNs not evaluated" not in shown
    assert read_sessions(run.layout)[-1].status == "FINISHED"  # nothing is missing that was ever wanted


def test_without_masks_and_without_a_memory_the_user_is_told(run, capsys):
    shutil.rmtree(run.layout.masks)
    shutil.rmtree(run.layout.root / "hopfield")
    capsys.readouterr()
    assert supsup("evaluate", run.layout.root) == 2
    assert "has no mask of task 0" in capsys.readouterr().err


def test_the_papers_protocol_has_labels_and_tables_of_its_own_and_the_order_adapts_otherwise(run):
    settings = ["evaluation.hopfield.adapt_on=same", "evaluation.hopfield.steps=one_pass"]
    assert supsup("evaluate", run.layout.root, *settings) == 0
    assert supsup("evaluate", run.layout.root, *settings, "evaluation.hopfield.order=shuffled") == 0
    found = measured(run)["GNs"]
    file_order = next(label for label in found if "same-one_pass" in label and "shuffled" not in label)
    shuffled = file_order.replace("one_pass", "one_pass-shuffled")
    assert len(found) == 3
    assert found[shuffled]["5"]["accuracy"] != found[file_order]["5"]["accuracy"]
    assert found[shuffled]["5"]["given_accuracy"] == found[file_order]["5"]["given_accuracy"]


def test_the_other_rule_has_its_own_memory(run):
    assert supsup("evaluate", run.layout.root, "evaluation.hopfield.rule=hebbian") == 0
    names = {path.name for path in (run.layout.root / "hopfield").iterdir()}
    assert names == {"storkey-00005.parquet", "hebbian-00005.parquet"}


@pytest.mark.parametrize(
    "damage", [lambda c: c[: len(c) // 2], lambda c: c[:99] + bytes([c[99] ^ 1]) + c[100:]]
)
def test_a_damaged_memory_is_named_and_made_again_from_the_masks(run, capsys, damage):
    path = run.layout.memory("storkey", 5)
    content = path.read_bytes()
    assert supsup("verify", run.layout.root) == 0
    path.write_bytes(damage(content))
    assert supsup("verify", run.layout.root) == 1
    assert f"damaged: {path}" in capsys.readouterr().out
    assert supsup("verify", run.layout.root, "--repair") == 0
    assert not path.exists()
    for table in run.layout.evaluations.glob("GNs-*"):
        table.unlink()
    assert supsup("evaluate", run.layout.root) == 0
    assert path.read_bytes() == content


def test_single_images_cannot_be_inferred_and_nothing_is_written(run, tmp_path, capsys):
    image = tmp_path / "image.npy"
    np.save(image, np.zeros((8, 8)))
    before = sorted(run.layout.root.rglob("*"))
    assert supsup("infer", run.layout.root, image) == 2
    assert "'bn_mlp' with masks on its outputs" in capsys.readouterr().err
    assert sorted(run.layout.root.rglob("*")) == before


def test_capacity_is_measured_on_the_masks_and_on_random_ones(run, capsys):
    assert supsup("capacity", run.layout.root, "--at", "2,5,300") == 0
    rows = pq.read_table(run.layout.report / "capacity.parquet").to_pylist()
    assert {(row["masks"], row["rule"], row["num_masks"]) for row in rows} == {
        (masks, rule, num)
        for masks, nums in (("trained", (2, 5)), ("random", (2, 5, 300)))
        for rule in ("hebbian", "storkey")
        for num in nums
    }
    held = {(row["masks"], row["rule"], row["num_masks"]): row["held"] for row in rows}
    assert held["random", "storkey", 5] == 1
    assert held["random", "hebbian", 300] == 0
    assert (run.layout.report / "capacity.png").exists()
    assert supsup("capacity", run.layout.root, "--at", "two") == 2
    assert "--at: found 'two'" in capsys.readouterr().err


@pytest.mark.parametrize("num_jobs", [0, 2, 4])
def test_stopped_while_training_or_recovering_it_ends_with_the_same_bytes(tmp_path, num_jobs, undisturbed):
    """Three jobs train (cohorts of two), five recover."""
    config = load_sweep(write_sweep(tmp_path, "stopped"))
    display = StopAfter()
    display.num_left = num_jobs
    with pytest.raises(StoppedError):
        run_sweep(config, None, display)
    run_sweep(config, None, Recorder())
    run = locate_run(config)
    assert run.store.info_table()["digest"] == undisturbed.store.info_table()["digest"]
    for path in undisturbed.layout.evaluations.glob("*.parquet"):
        assert (run.layout.evaluations / path.name).read_bytes() == path.read_bytes()
    memory = run.layout.memory("storkey", 5)
    assert memory.read_bytes() == undisturbed.layout.memory("storkey", 5).read_bytes()
    assert not (run.layout.evaluations / "parts").exists()


@pytest.fixture(autouse=True)
def forget_memories():
    """Drop the memory that the worker keeps: another test may have written it anew."""
    recovery_work._memory.cache_clear()
    yield
    recovery_work._memory.cache_clear()
