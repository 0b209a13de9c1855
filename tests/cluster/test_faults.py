"""A run that gets a second machine late, loses a worker of it, then the machine, and gets it back; or loses its own Ray."""

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.history import read_sessions
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from tests.cluster.conftest import join
from tests.cluster.hosts import until
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(400)]
TRAINING = "{steps: 15000, batch_size: 64, optimizer: {kind: rmsprop, lr: 1.0e-3}, cohort_size: 1}"

INLINE = ["executor.kind=inline", "executor.address=null", "benchmark.num_tasks=8", "evaluation.at=[8]"]


def test_tasks_survive_a_late_node_a_killed_worker_and_a_killed_node(two_hosts, tmp_path):
    alpha, beta = two_hosts
    path = tmp_path / "many.yaml"
    lines = {
        "benchmark": "{kind: permuted, dataset: synthetic, num_tasks: 28}",
        "training": TRAINING,
        "evaluation": "{at: [28]}",
    }
    path.write_text(sweep_text(tmp_path / "runs", executor="{kind: ray, address: '10.77.0.1:6379'}", **lines))
    store = locate_run(load_sweep(path)).store
    run = alpha.start("supsup", "run", path)

    def wait_for_more(num_masks: int) -> None:
        wanted = len(store.files()) + num_masks
        until(lambda: len(store.files()) >= wanted or run.poll() is not None, 120, f"{wanted} mask files")

    def worker_on_beta() -> int:
        found = until(lambda: beta.pids("ray::_Actor") or run.poll() is not None, 60, "a worker on beta")
        assert found is not True, run.stdout.read()
        return int(found[0])

    def hosts() -> set[str]:
        return {store.provenance(file)["host"] for file in store.files()}

    wait_for_more(2)
    join(beta, "10.77.0.2")
    worker = worker_on_beta()
    until(lambda: "beta" in hosts() or run.poll() is not None, 60, "a mask from beta")
    beta.must("kill", "-9", str(worker))
    wait_for_more(3)
    for raylet in beta.pids("raylet/raylet"):  # the raylet itself; the node's other processes go with it
        beta.run("kill", "-9", str(raylet))
    wait_for_more(2)
    join(beta, "10.77.0.2")
    shown, _ = run.communicate(timeout=200)
    assert run.returncode == 0, shown
    assert "on beta was lost" in shown
    assert "Traceback" not in shown
    assert hosts() == {"alpha", "beta"}
    inline = load_sweep(path, [*INLINE, f"storage.uri={tmp_path}/inline"])
    run_sweep(inline, None, Recorder())
    expected = locate_run(inline).store.info_table()["digest"].to_pylist()
    found = store.info_table()["digest"].to_pylist()
    assert (len(found), found[: len(expected)]) == (28, expected)


@pytest.mark.parametrize("process", ["raylet/raylet", "gcs_server"])
def test_the_end_of_the_joined_ray_is_told_and_ends_the_session(two_hosts, tmp_path, process):
    alpha, _ = two_hosts
    path = tmp_path / "one.yaml"
    training = TRAINING.replace("15000", "500000")
    path.write_text(
        sweep_text(
            tmp_path / "runs",
            executor="{kind: ray, address: '10.77.0.1:6379'}",
            training=training,
            evaluation="{at: [4]}",
        )
    )
    layout = locate_run(load_sweep(path)).layout
    run = alpha.start("supsup", "run", path, "--plain")
    until(lambda: "tasks, step" in run.stdout.readline() or run.poll() is not None, 120, "steps")
    for number in alpha.pids(process):
        alpha.must("kill", "-9", str(number))
    shown, _ = run.communicate(timeout=200)
    assert run.returncode == 1, shown
    assert shown.splitlines()[-1].startswith("lost the Ray cluster at 10.77.0.1:6379")
    assert [one.status for one in read_sessions(layout)] == ["FAILED"]
