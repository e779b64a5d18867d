"""The work on messages of a queue: depth, processing time, throughput."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from types import MethodType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette.instrument.technical import TechnicalMetrics


class QueueWorker:
    """Measures the work on the messages of one queue; shared by all tasks and threads that work on it.

    ```python
    worker = TechnicalMetrics().queue_worker("settlements", depth=queue.qsize)
    while True:
        message = await queue.get()
        with worker.message():
            await settle(message)
    ```

    Args:
        metrics: where to send to.
        queue: its name.
        depth: says how many messages wait.
    """

    def __init__(self, metrics: TechnicalMetrics, queue: str, depth: Callable[[], int] | None = None) -> None:
        self._metrics = metrics
        self._queue = queue
        if depth is not None:
            self._watch(depth)

    def message(self) -> MessageTimer:
        """A context manager around one message: timed always, counted as processed unless it raises."""
        return MessageTimer(self._metrics, self._queue)

    def report_depth(self, messages: int) -> None:
        """Report how many messages wait, where a coroutine must be awaited to know."""
        self._metrics.track_message_queue(queue=self._queue, depth=messages)

    def _watch(self, depth: Callable[[], int]) -> None:
        metrics, queue, held = self._metrics, self._queue, _weakly(depth)

        def read() -> None:
            ask = held()
            if ask is None:
                raise ReferenceError
            metrics.track_message_queue(queue=queue, depth=ask())

        metrics.every_ten_seconds(read, ("queue", queue))


def _weakly(function: Callable[[], int]) -> Callable[[], Callable[[], int] | None]:
    """A bound method without keeping its object alive, where that can be done."""
    if isinstance(function, MethodType):
        with suppress(TypeError):
            return weakref.WeakMethod(function)
    return lambda: function


class MessageTimer:
    """Times one message. `with` and `async with` do the same."""

    __slots__ = ("_metrics", "_queue", "_started")

    def __init__(self, metrics: TechnicalMetrics, queue: str) -> None:
        self._metrics = metrics
        self._queue = queue
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        took = (perf_counter() - self._started) * 1000
        self._metrics.track_message_queue(
            queue=self._queue, processing_time_ms=took, processed=1 if kind is None else 0
        )

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)
