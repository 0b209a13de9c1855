"""The stream of visits: new tasks in order, some come back, boundaries where the spec puts them."""

import itertools
from dataclasses import replace

import pytest

from core.errors import ConfigError
from core.specs.benchmark import BenchmarkSpec
from core.specs.training import AllocationSpec, StreamSpec, TrainingSpec
from core.stream.schedule import num_decisions, plan_visits, segments
from tests.conftest import tiny_spec


def stream_spec(num_tasks=20, **rules):
    return tiny_spec(
        benchmark=BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=num_tasks),
        training=TrainingSpec(task_identity="none", steps=100, stream=StreamSpec(**rules)),
    )


def test_each_task_is_new_once_and_in_order():
    new = [visit.task for visit in plan_visits(stream_spec()) if visit.kind == "new"]
    assert new == list(range(20))


def test_the_shares_of_returns_and_repeats_are_those_asked_for():
    visits = plan_visits(stream_spec(return_share=0.25, repeat_share=0.1))
    assert len(visits) == 20 + 5 + 2
    for before, visit in itertools.pairwise(visits):
        if visit.kind == "repeat":
            assert visit.task == before.task
        if visit.kind == "return":
            assert visit.task != before.task


def test_visits_follow_each_other_and_images_go_on_where_they_stopped():
    end, seen = 0, {}
    for visit in plan_visits(stream_spec()):
        assert visit.first == end
        assert visit.num_seen == seen.get(visit.task, 0)
        end, seen[visit.task] = visit.end, visit.num_seen + visit.num_batches


def test_random_boundaries_are_anywhere_and_aligned_ones_where_decisions_fall():
    visits = plan_visits(stream_spec(length_jitter=0.25))
    assert all(75 <= visit.num_batches <= 125 for visit in visits)
    assert len({visit.first % 100 for visit in visits}) > 10
    aligned = plan_visits(stream_spec(boundaries="aligned"))
    assert {visit.first % 100 for visit in aligned} == {0}


def test_parts_cut_a_stretch_of_the_stream_by_visits():
    visits = plan_visits(stream_spec())
    stretch = list(segments(visits, visits[0].end - 3, visits[1].first + 2))
    assert [(visit.task, stop - start) for visit, start, stop in stretch] == [
        (visits[0].task, 3),
        (visits[1].task, 2),
    ]
    whole = [batch for _, start, stop in segments(visits, 0, visits[-1].end) for batch in range(start, stop)]
    assert whole == list(range(visits[-1].end))


def test_the_last_decision_may_stand_for_fewer_batches():
    spec = stream_spec()
    assert 0 <= 100 * num_decisions(spec) - plan_visits(spec)[-1].end < 100


def test_the_schedule_depends_on_the_seed_alone():
    spec = stream_spec()
    assert plan_visits(spec) == plan_visits(spec)
    assert plan_visits(spec) != plan_visits(replace(spec, seed=4))


def test_a_stream_of_one_task_has_no_returns():
    assert {
        visit.task for visit in plan_visits(stream_spec(num_tasks=1, return_share=3, repeat_share=2))
    } == {0}


def test_aligned_boundaries_need_visits_of_whole_decisions():
    with pytest.raises(ConfigError, match=r"training.steps.*a multiple of decide_every \(30\)"):
        TrainingSpec(
            task_identity="none",
            steps=100,
            stream=StreamSpec(boundaries="aligned"),
            allocation=AllocationSpec(decide_every=30),
        )
