"""Generations: masks that a run stores are taken up, a run that cannot be read changes nothing."""

import asyncio
import shutil

import numpy as np
import pytest

from core.errors import InferenceError
from orchestrator.runs.run import open_run
from orchestrator.serve.engine import Engine
from orchestrator.serve.generation import read_generation
from tests.conftest import supsup
from tests.orchestrator.serve.conftest import served, train


@pytest.fixture
def copied(run, tmp_path):
    """Return the run of four tasks in a folder of its own, which may grow."""
    return train(tmp_path, 4)


def test_nothing_new_gives_the_same_generation(run):
    first = read_generation(run, {})
    assert read_generation(run, {}, first) is first


def test_masks_are_taken_up_and_the_old_generation_goes_on_answering(copied, tmp_path, images):
    taken = []
    engine = Engine(lambda before: read_generation(copied, {}, before), 3600, on_change=taken.append)
    engine.refresh()
    before = engine.current
    answers = before.predictor.infer(images)
    train(tmp_path, 6)
    engine.refresh()
    assert len(engine.current.digests) == 6
    assert engine.current.digests[:4] == before.digests
    assert engine.current.name != before.name
    assert [len(one.digests) for one in taken] == [4, 6]
    assert before.predictor.infer(images) == answers
    assert engine.current.predictor.classify(images, 5)[0].task == 5


def test_a_run_that_cannot_be_read_keeps_its_masks_and_says_why(copied, images):
    engine = Engine(lambda before: read_generation(copied, {}, before), 3600)
    engine.refresh()
    before = engine.current
    path = copied.store.files()[0]
    kept = path.read_bytes()
    path.write_bytes(kept[:100])
    engine.refresh()
    assert engine.current is before
    assert path.name in engine.problem
    assert len(before.predictor.classify(images, 0)) == len(images)
    path.write_bytes(kept)
    engine.refresh()
    assert engine.problem is None


def test_no_fault_ends_the_look_for_new_masks(run):
    faults = [ValueError("of any kind"), OSError("of the disk"), None]

    def read(before):
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return read_generation(run, {}, before)

    engine = Engine(read, 3600)
    problems = []
    for _ in range(3):
        engine.refresh()
        problems.append(engine.problem)
    assert problems == ["of any kind", "of the disk", None]
    assert len(engine.current.digests) == 4


def test_a_run_without_masks_is_not_ready(copied):
    shutil.rmtree(copied.layout.masks)
    engine = Engine(lambda before: read_generation(copied, {}, before), 3600)
    engine.refresh()
    assert engine.current is None
    assert "no mask of task 0" in engine.problem


def test_inference_may_be_chosen(run):
    chosen = read_generation(run, {"algorithm": "binary", "objective": "H"})
    assert (chosen.predictor.search.spec.algorithm, chosen.predictor.search.spec.objective) == ("binary", "H")
    assert open_run(run.layout.root)[0].config.evaluation.inference != chosen.predictor.search.spec
    assert np.isfinite(chosen.predictor.infer(np.zeros((6, 6)))[0].best[0].value)


@pytest.mark.parametrize("task", [0, 2])
def test_a_forgotten_task_leaves_with_the_next_look(copied, images, task):
    engine = Engine(lambda before: read_generation(copied, {}, before), 3600)
    engine.refresh()
    before, others = engine.current, [other for other in range(4) if other != task]
    given = before.predictor.classify(images[:3], others)
    assert supsup("forget", copied.layout.root, "--task", task, "--quiet") == 0
    engine.refresh()
    assert engine.problem is None
    assert (engine.current.num_tasks, engine.current.digests[task]) == (3, "")
    assert engine.current.predictor.classify(images[:3], others) == given
    assert {one.task for answer in engine.current.predictor.infer(images) for one in answer.best} == set(
        others
    )
    with pytest.raises(InferenceError, match=f"found {task}"):
        engine.current.predictor.classify(images, task)
    client = served(copied)[1]
    states = [asyncio.run(client.get(f"/v1/tasks/{other}")).json["state"] for other in range(4)]
    assert states == ["forgotten" if other == task else "served" for other in range(4)]
    assert asyncio.run(client.get("/v1/bank")).json["num_tasks"] == 3
