"""What devices there are, and how many workers they hold; no GPU is needed, nor seen."""

import os
import subprocess
import sys
import textwrap

import pytest

from core.errors import ConfigError
from orchestrator.cluster import connect, devices, resources
from orchestrator.cluster.devices import Gpu, least_of, read_gpus, unopened_device, visible
from orchestrator.config.load import load_sweep
from orchestrator.config.sections import ExecutorConfig
from orchestrator.runs.run import locate_run
from orchestrator.runs.sizing import (
    Device,
    Node,
    auto_cohort_size,
    run_engine,
    workers_in_all,
    workers_on,
)
from tests.orchestrator.fakes import resources_of

LISTING = """0, GPU-aaaa-1, 81079, NVIDIA H100 80GB HBM3
1, GPU-bbbb-2, 40000, NVIDIA A100-SXM4-40GB
"""
GB = 10**9


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an ``nvidia-smi`` on the path that prints the two lines above, and no CUDA_VISIBLE_DEVICES."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tool


def gpu(name="H100", free_bytes=80 * GB, **changes):
    return Device(
        **{"name": name, "free_bytes": free_bytes, "has_compiler": True, "has_triton": True, "told_by": "a"}
        | changes
    )


@pytest.mark.parametrize(
    ("num_gpus", "each", "workers"),
    [(2, 1.0, 2), (2, 0.5, 4), (2, 0.4, 4), (2, 0.25, 8), (1, 0.1, 10), (3, 0.7, 3), (0, 1.0, 0)],
)
def test_a_worker_holds_a_gpu_or_a_part_of_one_never_parts_of_two(num_gpus, each, workers):
    assert workers_on(Node(64, num_gpus), 1, each) == workers


def test_no_worker_lies_on_two_machines():
    assert workers_in_all([Node(3), Node(3)], 2, 0) == 2  # six cores in all, yet not three workers
    assert workers_in_all([Node(2, 8), Node(64, 1)], 1, 1) == 3  # two cores feed two of eight GPUs


def test_workers_that_share_a_gpu_share_its_memory():
    quarter = resources_of(gpus_per_worker=0.25, free_bytes=80 * GB)
    quarter = resources._resources(ExecutorConfig(), [Node(64, 1)], 0.25, quarter.device, None)
    assert (quarter.num_workers, quarter.workers_per_device) == (4, 4)
    size = auto_cohort_size(10**6, quarter.num_workers, quarter.worker_bytes, 10**6, on_gpu=True)
    assert (
        0.45 * 80 * GB <= 4 * size * 10**6 <= 0.5 * 80 * GB
    )  # all four: half of the card, not twice the card


def test_a_worker_alone_in_a_process_that_was_given_a_part_of_a_gpu_keeps_to_it():
    found = resources._resources(ExecutorConfig(kind="inline"), [Node(64, 1)], 0.25, gpu(), None)
    assert (found.num_workers, found.worker_bytes) == (1, 20 * GB)


def test_memory_of_processors_is_shared_by_the_workers_of_one_machine():
    one = resources._resources(ExecutorConfig(), [Node(8)], 0.0, gpu("cpu"), None)
    two = resources._resources(ExecutorConfig(), [Node(8), Node(4)], 0.0, gpu("cpu"), None)
    assert [(r.num_workers, r.workers_per_device) for r in (one, two)] == [(8, 8), (12, 8)]


def test_the_driver_lists_gpus_and_cuda_shows_some_of_them():
    gpus = read_gpus(f"{LISTING}2, GPU-bbbb-3, [N/A], NVIDIA L4, rev. 2\nno devices were found\n")
    assert gpus[0] == Gpu(0, "GPU-aaaa-1", "NVIDIA H100 80GB HBM3", 81079 << 20)
    assert (gpus[2].name, gpus[2].free_bytes) == ("NVIDIA L4, rev. 2", None)
    for chosen, indices in {
        None: [0, 1, 2],
        "": [],
        "-1": [],
        "1": [1],
        "1,0": [1, 0],
        "0,7,1": [0],  # CUDA stops there
        "GPU-aaaa": [0],
        "GPU-bbbb": [],  # names two
        "0,0": [0],
    }.items():
        assert [one.index for one in visible(gpus, chosen)] == indices, chosen
    assert visible(gpus, "MIG-1,MIG-2")[1].free_bytes is None


def test_without_a_driver_there_is_no_gpu_whatever_lies_in_dev(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert devices.local_gpus() == []


def test_a_plan_reads_the_driver_and_opens_nothing(smi, monkeypatch):
    monkeypatch.setattr(resources, "ask_process", lambda: pytest.fail("opens a GPU"))
    found = resources.find_resources(ExecutorConfig(), connect=False)
    assert (found.num_workers, found.gpus_per_worker) == (2, 1.0)
    assert found.device.name == "NVIDIA A100-SXM4-40GB"  # that with less
    assert found.device.free_bytes == 40000 << 20
    assert "40000" not in str(found.device)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert resources.find_resources(ExecutorConfig(), connect=False).num_workers == 1


def test_supsup_plan_does_not_even_import_torch_for_a_gpu(smi, sweep):
    """Nor thereby opens a context of CUDA."""
    code = f"""
        import sys
        from orchestrator.cli.main import app, call
        assert call(app, ["plan", {str(sweep)!r}, "executor.kind=ray"]) == 0
        assert "torch" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 (ray), a GPU each: NVIDIA A100-SXM4-40GB, 41.9 GB free" in done.stdout


def test_what_nobody_could_tell_is_called_an_assumption():
    device = unopened_device([Gpu(0, "MIG-1", "part of a GPU", None)])
    assert (device.name, device.told_by, device.free_bytes) == (None, None, 8 << 30)
    assert "assumed" in str(device)


def test_two_gpus_for_a_worker_are_refused(smi):
    with pytest.raises(ConfigError, match=r"gpus_per_worker: found 2, expected 1 or a part of 1"):
        resources.find_resources(ExecutorConfig(gpus_per_worker=2), connect=False)


def test_the_answer_with_the_least_memory_counts():
    low = gpu("A100", 40 * GB)
    assert least_of([gpu(), low, TimeoutError("no answer")]) == (low, "no answer")
    assert least_of([gpu(None, 0)]) == (None, "torch sees no GPU on a")


def test_gpus_that_torch_does_not_see_are_said(smi):
    """Here ``nvidia-smi`` is made up, so that a process of its own finds nothing."""
    found = resources.find_resources(ExecutorConfig(), connect=True)
    assert not found.on_gpu
    assert found.num_workers == len(os.sched_getaffinity(0))
    assert "torch sees no GPU on" in found.note
    assert found.note.endswith("tasks train on CPUs")
    with pytest.raises(ConfigError, match=r"gpus_per_worker: found 0\.5, but torch sees no GPU"):
        resources.find_resources(ExecutorConfig(gpus_per_worker=0.5), connect=True)


def test_the_engine_is_that_of_the_workers_machine(sweep):
    run = locate_run(load_sweep(sweep, ["training.steps=100000000"]))
    without = {"has_triton": False, "gpus_per_worker": 1.0}
    assert run_engine(run, resources_of(gpus_per_worker=1.0)) == "triton"
    assert run_engine(run, resources_of(**without)) == "eager"


@pytest.fixture(scope="module")
def two_gpus():
    """Start Ray with two GPUs that it only counts."""
    if connect.ray.is_initialized():
        pytest.skip("Ray runs already, without the GPUs that it would pretend")
    connect.ensure_token()
    connect._init(
        address="local", num_cpus=4, num_gpus=2, include_dashboard=False, _node_ip_address="127.0.0.1"
    )
    yield
    connect.ray.shutdown()


def made_up_device(*, on_gpu):
    """Stand in for ``find_device`` in a worker's process."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    return gpu(f"GPU {shown}", (30 if on_gpu else 10) * GB, told_by=str(os.getpid()))


@pytest.mark.slow
@pytest.mark.ray
def test_a_process_that_holds_a_workers_gpu_tells_its_memory(two_gpus, monkeypatch):
    monkeypatch.setattr(resources, "find_device", made_up_device)
    asked = ExecutorConfig(gpus_per_worker=0.4, address="auto")
    found = resources.find_resources(asked, connect=True)
    assert found.num_workers == 4  # two on each; five were planned
    assert found.device.name in ("GPU 0", "GPU 1")  # Ray has given it one
    assert found.device.told_by != str(os.getpid())
    assert found.worker_bytes == 15 * GB
    monkeypatch.undo()
    found = resources.find_resources(ExecutorConfig(address="auto"), connect=True)
    assert not found.on_gpu  # asked for real: this machine has none
    assert "torch sees no GPU" in found.note


@pytest.mark.slow
@pytest.mark.ray
def test_gpus_that_all_are_held_are_not_waited_for_forever(two_gpus, monkeypatch):
    group = connect.ray.util.placement_group([{"GPU": 1}] * 2)
    connect.ray.get(group.ready())
    monkeypatch.setattr(resources, "find_device", made_up_device)
    monkeypatch.setattr(resources, "ANSWER_LIMIT_S", 1.0)
    found = resources.find_resources(ExecutorConfig(address="auto"), connect=True)
    assert (found.num_workers, found.device.told_by) == (2, None)
    assert "no GPU could be asked for its memory (no answer)" in found.note
    connect.ray.util.remove_placement_group(group)
