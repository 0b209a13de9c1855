"""What a node does not see is named before anything starts."""

import pytest

from core.errors import ConfigError, RunFolderError, WorkerError
from orchestrator.cluster import connect, resources
from tests.orchestrator.fakes import Recorder


@pytest.fixture
def nodes(monkeypatch):
    """Pretend that these nodes gave these answers."""
    answers = {}
    monkeypatch.setattr(connect, "run_on_each_node", lambda *_, **__: answers)
    return answers


def seen(**changes):
    return {"storage": None} | resources.versions_here() | changes


def test_nodes_that_see_everything_pass_and_leave_nothing(nodes, tmp_path):
    nodes["a (10.0.0.1)"] = seen()
    resources.check_nodes(str(tmp_path / "runs"), Recorder())
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_node_that_does_not_see_the_storage_is_named(nodes, tmp_path):
    nodes.update({"a (10.0.0.1)": seen(), "b (10.0.0.2)": seen(storage="does not see it")})
    with pytest.raises(RunFolderError, match=r"storage\.uri: .*node b \(10\.0\.0\.2\) does not see it"):
        resources.check_nodes(str(tmp_path), Recorder())


def test_a_node_that_cannot_run_this_is_named(nodes, tmp_path):
    nodes["b (10.0.0.2)"] = ModuleNotFoundError("No module named 'orchestrator'")
    with pytest.raises(ConfigError, match=r"b \(10\.0\.0\.2\): No module named"):
        resources.check_nodes(str(tmp_path), Recorder())


def test_other_versions_are_said(nodes, tmp_path):
    told = Recorder()
    nodes.update({"b (10.0.0.2)": seen(numpy="1.0"), "c (10.0.0.3)": seen(instructions="sse")})
    resources.check_nodes(str(tmp_path), told)
    assert "node b (10.0.0.2) has numpy 1.0; this machine has numpy" in told.messages
    assert "node c (10.0.0.3) has instructions sse; this machine has instructions" in told.messages


def test_looking_around_finds_what_is_not_shared(tmp_path):
    probe = tmp_path / ".probe-1"
    assert "is not shared with it" in resources.inspect_node(probe)["storage"]
    probe.write_bytes(b"other")
    assert "another file" in resources.inspect_node(probe)["storage"]
    probe.write_bytes(b"supsup")
    assert resources.inspect_node(probe)["storage"] is None
    assert [path.name for path in tmp_path.iterdir()] == [".probe-1"]


@pytest.mark.ray
def test_every_node_of_a_real_ray_answers(local_ray, tmp_path):
    resources.check_nodes(str(tmp_path), Recorder())
    assert list(tmp_path.iterdir()) == []


def test_a_ray_that_does_not_start_is_one_line_and_no_fault_of_ours(monkeypatch):
    def fail(**_):
        raise Exception("The current node timed out during startup.\nMore of it.")  # noqa: TRY002  # as Ray does

    monkeypatch.setattr(connect, "_init", fail)
    with pytest.raises(
        WorkerError, match=r"did not start .* \(The current node timed out .*same command again$"
    ):
        connect.start_ray(None, num_cpus=1)
