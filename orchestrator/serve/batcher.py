"""Dynamic batching: requests that wait are answered together, as soon as the last batch is done.

Nothing waits for a batch to fill. Under light load a request is a batch of its own; under heavy load a batch is what
came in while the last one was computed. Everything but the work itself happens in one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Work = Callable[[Sequence[T]], Sequence[R | Exception]]  # an answer or an exception for each item


class QueueFullError(Exception):
    """Too many images wait already."""


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[T]):
    item: T
    num_images: int
    future: "asyncio.Future[Any]"


class Batcher(Generic[T, R]):
    """Answers items in batches of about ``most_images``, with at most ``queue_images`` waiting.

    inline_images: batches up to this size are worked on in the event loop, as a thread would take longer to take them
    over than to answer them; 0 if an image takes long.
    """

    def __init__(
        self, work: Work[T, R], *, most_images: int, queue_images: int, inline_images: int = 0
    ) -> None:
        self._work, self._most_images, self._queue_images = work, most_images, queue_images
        self._inline_images = inline_images
        self._waiting: deque[_Waiting[T]] = deque()
        self._num_images = 0
        self._is_busy = self._is_due = False
        self._thread = ThreadPoolExecutor(1, "batches")

    async def submit(self, item: T, num_images: int) -> R:
        """Return the answer to an item. Raises QueueFullError, or what ``work`` returned or raised."""
        if self._num_images and self._num_images + num_images > self._queue_images:
            raise QueueFullError
        loop = asyncio.get_running_loop()
        waiting = _Waiting(item, num_images, loop.create_future())
        self._waiting.append(waiting)
        self._num_images += num_images
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._next, loop)
        answer: R = await waiting.future
        return answer

    def close(self) -> None:
        """End the thread after the batch that it works on."""
        self._thread.shutdown(wait=True)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work on what waits, unless the last batch is still at work: its end calls this again."""
        self._is_due = False
        if self._is_busy or not (batch := self._take()):
            return
        items = [waiting.item for waiting in batch]
        if sum(waiting.num_images for waiting in batch) <= self._inline_images:
            _settle(batch, self._answers(items))
            self._look_again(loop)
            return
        self._is_busy = True
        task = loop.run_in_executor(self._thread, self._answers, items)
        task.add_done_callback(lambda done: self._finish(loop, batch, done.result()))

    def _finish(
        self, loop: asyncio.AbstractEventLoop, batch: Sequence[_Waiting[T]], answers: Sequence[R | Exception]
    ) -> None:
        self._is_busy = False
        _settle(batch, answers)
        self._look_again(loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            loop.call_soon(self._next, loop)

    def _answers(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return self._work(items)
        # Each request hears of it.
        except Exception as error:
            return [error] * len(items)

    def _take(self) -> list[_Waiting[T]]:
        """Return what waits, up to ``most_images`` unless one item has more, without what was given up."""
        batch: list[_Waiting[T]] = []
        num_images = 0
        while self._waiting:
            if batch and num_images + self._waiting[0].num_images > self._most_images:
                break
            waiting = self._waiting.popleft()
            self._num_images -= waiting.num_images
            if not waiting.future.done():
                batch.append(waiting)
                num_images += waiting.num_images
        return batch


def _settle(batch: Sequence[_Waiting[Any]], answers: Sequence[Any]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if waiting.future.done():
            continue  # the request was given up
        if isinstance(answer, Exception):
            waiting.future.set_exception(answer)
        else:
            waiting.future.set_result(answer)
