"""Batches: what waits is answered together, in order, within bounds, and no fault spreads."""

import asyncio
import threading

import pytest

from orchestrator.serve.batcher import Batcher, QueueFullError


def run_with(work, talk, **limits):
    async def main():
        batcher = Batcher(work, **{"most_images": 4, "queue_images": 100, **limits})
        try:
            return await talk(batcher)
        finally:
            batcher.close()

    return asyncio.run(main())


def many(batcher, num, num_images=1):
    return asyncio.gather(*(batcher.submit(item, num_images) for item in range(num)), return_exceptions=True)


@pytest.mark.parametrize("inline", [0, 2, 100])
def test_each_gets_its_own_answer_and_batches_stay_within_bounds(inline):
    sizes, threads = [], set()

    def work(items):
        sizes.append(len(items))
        threads.add(threading.current_thread() is threading.main_thread())
        return [10 * item for item in items]

    found = run_with(work, lambda batcher: many(batcher, 9), inline_images=inline)
    assert found == [10 * item for item in range(9)]
    assert sizes == [4, 4, 1]
    assert threads == {0: {False}, 2: {False, True}, 100: {True}}[inline]


def test_what_comes_while_a_batch_is_at_work_waits_for_the_next():
    begun, may_go, batches = threading.Event(), threading.Event(), []

    def work(items):
        batches.append(list(items))
        begun.set()
        may_go.wait(10)
        return items

    async def talk(batcher):
        first = asyncio.ensure_future(batcher.submit("first", 1))
        await asyncio.to_thread(begun.wait, 10)
        rest = [asyncio.ensure_future(batcher.submit(item, 1)) for item in ("second", "third")]
        await asyncio.sleep(0.01)
        may_go.set()
        return await asyncio.gather(first, *rest)

    assert run_with(work, talk) == ["first", "second", "third"]
    assert batches == [["first"], ["second", "third"]]


def test_an_item_larger_than_a_batch_is_one_alone():
    sizes = []

    def work(items):
        sizes.append(len(items))
        return items

    assert run_with(work, lambda batcher: many(batcher, 3, num_images=7)) == [0, 1, 2]
    assert sizes == [1, 1, 1]


def test_a_full_queue_refuses_and_then_takes_again():
    async def talk(batcher):
        return await many(batcher, 5, num_images=3), await many(batcher, 2, num_images=3)

    first, then = run_with(list, talk, queue_images=9)
    assert [type(one) for one in first] == [int, int, int, QueueFullError, QueueFullError]
    assert then == [0, 1]


@pytest.mark.parametrize("inline", [0, 100])
def test_a_fault_reaches_those_it_concerns_and_no_later_ones(inline):
    def work(items):
        if 0 in items:
            raise ValueError("broken")
        return [KeyError(item) if item == 5 else item for item in items]

    found = run_with(work, lambda batcher: many(batcher, 8), inline_images=inline)
    assert [type(one) for one in found] == [ValueError] * 4 + [int, KeyError, int, int]


def test_requests_that_were_given_up_are_not_worked_on():
    seen = []

    def work(items):
        seen.extend(items)
        return items

    async def talk(batcher):
        lost = asyncio.ensure_future(batcher.submit("lost", 1))
        kept = asyncio.ensure_future(batcher.submit("kept", 1))
        await asyncio.sleep(0)  # both wait
        lost.cancel()
        return await kept

    assert run_with(work, talk) == "kept"
    assert seen == ["kept"]
