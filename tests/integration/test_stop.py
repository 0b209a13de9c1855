"""A stop in the middle of a cohort keeps its steps, and the resume ends with the bits of an undisturbed run."""

import random
import re
import signal
import sys
import time

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from storage.checkpoints import saved_steps
from tests.conftest import start, sweep_text
from tests.orchestrator.fakes import Recorder

OPTIMIZER = "batch_size: 64, optimizer: {kind: rmsprop, lr: 1.0e-3}"
# The command itself, which shows twenty reports of steps a second.
EVERY_REPORT = """
import orchestrator.cli.display, orchestrator.cli.main
orchestrator.cli.display.PLAIN_STEPS_S = 0.05
orchestrator.cli.main.entry_point()
"""
KINDS = {
    "cohorts": {
        "network": "{kind: lenet_300_100, outputs: 10}",
        "benchmark": "{kind: permuted, dataset: digits, num_tasks: 2}",
        "training": f"{{steps: 2500, {OPTIMIZER}, cohort_size: 2}}",
        "evaluation": "{at: [2]}",
    },
    "module": {
        "network": "{kind: conv4, outputs: 10}",
        "benchmark": "{kind: split, dataset: digits, num_tasks: 2}",
        "training": f"{{steps: 150, {OPTIMIZER}, cohort_size: 2}}",
        "evaluation": "{at: [2]}",
    },
    "outputs": {
        "network": "{kind: bn_mlp, hidden: [64], outputs: 10}",
        "benchmark": "{kind: split, dataset: digits, num_tasks: 2}",
        "training": "{steps: 4000, batch_size: 32, optimizer: {kind: sgd}, cohort_size: 2}",
        "evaluation": "{scenarios: [GG], at: [2]}",
    },
    "baseline": {
        "baseline": "{kind: psp}",
        "training": "{steps: 3000, batch_size: 64, optimizer: {kind: adam, lr: 1.0e-3}}",
    },
    "stream": {
        "network": "{kind: mlp, hidden: [48], outputs: 32}",
        "training": "{task_identity: none, steps: 8000, batch_size: 16, optimizer: {kind: rmsprop, lr: 3.0e-3}, "
        "allocation: {decide_every: 100, epsilon: 0.35}, cohort_size: 2}",
        "evaluation": "{scenarios: [NNs]}",
    },
}


LONG = dict.fromkeys(("module", "baseline", "outputs"), pytest.mark.long)


def write(folder, name, kind, **changes):
    path = folder / f"{name}.yaml"
    path.write_text(sweep_text(folder / name, **(KINDS[kind] | changes)))
    return path


def made(path):
    """Return what a run has made, by digests: masks, or a baseline's states, whose names have digests."""
    run = locate_run(load_sweep(path))
    states = sorted(file.name for file in run.layout.baseline.glob("*"))
    return states or run.store.info_table()["digest"].to_pylist()


def stop_in_training(path, wait_s, number=signal.SIGINT):
    """Start a run, stop it when it has been training for so long; return what it printed."""
    process = start([sys.executable, "-c", EVERY_REPORT, "run", str(path), "--plain"])
    shown = line = ""
    while (
        not re.search(r", step [1-9][\d,]+|stream [1-9]\d+/", line) and process.poll() is None
    ):  # the first step compiles
        line = process.stdout.readline()
        shown += line
    time.sleep(wait_s)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, shown + rest
    return shown + rest


def num_saved(path):
    """Return the steps that are saved in the folder."""
    run = locate_run(load_sweep(path))
    if run.layout.stream_state.exists():
        from storage.stream_state import read_position

        return 100 * read_position(run.layout, run.fingerprint).num_decisions
    return sum(saved_steps(file)[0] for file in run.layout.saves.glob("*"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=LONG.get(kind, ())) for kind in KINDS])
def test_ctrl_c_within_a_job_keeps_its_steps(tmp_path, kind):
    whole, path = write(tmp_path, "whole", kind), write(tmp_path, "stopped", kind)
    run_sweep(load_sweep(whole), None, Recorder())
    shown = stop_in_training(path, 0.5)
    saved = num_saved(path)
    assert saved > 10
    if kind != "stream":
        found = re.search(r"and ([\d,]+) of the [\d,]+ steps of 1 unfinished (cohort|task);", shown)
        assert found, shown
        assert int(found[1].replace(",", "")) == saved
    again = Recorder()
    run_sweep(load_sweep(path), None, again)
    assert made(path) == made(whole)
    first = next(event for event in again.events if event[0] == "steps")
    assert first[2] >= (saved if kind != "stream" else 0)  # it goes on where it was


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_of_ray_workers_keeps_the_steps_of_each(tmp_path, number):
    one_each = {"training": f"{{steps: 9000, {OPTIMIZER}, cohort_size: 1}}"}
    whole = write(tmp_path, "whole", "cohorts", **one_each)
    path = write(tmp_path, "stopped", "cohorts", **one_each, executor="{kind: ray, workers: 2}")
    run_sweep(load_sweep(whole), None, Recorder())
    draw = random.Random(5)
    before = 0
    for _ in range(2):
        shown = stop_in_training(path, draw.uniform(0.1, 1.0), number)
        done = len(locate_run(load_sweep(path)).store.locate())
        assert done or "steps of 2 unfinished cohorts" in shown
        assert done or num_saved(path) > before
        before = num_saved(path)
    run_sweep(load_sweep(path), None, Recorder())
    assert made(path) == made(whole)
