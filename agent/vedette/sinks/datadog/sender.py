"""Sends what waits for one endpoint, one request after another, for as long as the sink lives."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from vedette.kit import Outcome
from vedette.sinks.datadog import cut
from vedette.sinks.datadog.breaker import Breaker
from vedette.sinks.datadog.transport import Verdict

if TYPE_CHECKING:
    from vedette.sinks.datadog.lanes import Lane
    from vedette.sinks.datadog.queue import Queue, Request
    from vedette.sinks.datadog.transport import Answer, Transport


class Desk(Protocol):
    """Who is told how it goes."""

    def answered(self, lane: Lane, answer: Answer) -> None:
        """An answer came, or none."""

    def changed(self) -> None:
        """There is less in the queue."""

    def refused(self, lane: Lane, names: list[str], number: int) -> None:
        """Items were given up because the endpoint will never take them."""


class Sender:
    """The worker of one endpoint.

    Args:
        lane: the endpoint.
        queue: where it takes from.
        transport: sends.
        desk: is told.
        flush: seconds between two requests while there is less than a full one.
    """

    def __init__(self, lane: Lane, queue: Queue, transport: Transport, desk: Desk, flush: float) -> None:
        self.breaker = Breaker()
        self._lane = lane
        self._queue = queue
        self._transport = transport
        self._desk = desk
        self._flush = flush
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()

    def look(self) -> None:
        """There may be a full request."""
        if (self._queue.standing.waiting or {}).get(self._lane.name, 0.0) >= 1.0:
            self._news.set()

    def stop(self) -> None:
        """Send what there is and end; end at once where that fails, or did before."""
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Work until told to stop."""
        while not (self._stopping.is_set() and self.breaker.probing):  # what does not work does not hold up the stop
            pause = await self._send_all()
            if self._stopping.is_set():
                return
            self._news.clear()
            if pause is None:
                self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._flush if pause is None else pause):
                    await (self._news if pause is None else self._stopping).wait()

    async def _send_all(self) -> float | None:
        """Send until nothing waits; returns how long to wait after a failure, or None if there was none."""
        while True:
            request = await self._queue.next(self._lane)
            if request is None:
                return None
            pause = await self._send(request)
            if pause is not None:
                return pause
            if not self._stopping.is_set() and (self._queue.standing.waiting or {}).get(self._lane.name, 0.0) < 1.0:
                return None

    async def _send(self, request: Request) -> float | None:
        """Send a request, halved where it is too large; returns how long to wait if it did not work out."""
        todo = [request]
        try:
            while todo:
                current = todo[-1]
                answer = await self._transport.send(
                    self._lane.path, current.body, current.coding, logs=self._lane.is_logs
                )
                self._desk.answered(self._lane, answer)
                pause = await self._conclude(current, answer, todo)
                if pause is not None:
                    return pause
        finally:
            for one in todo:
                self._queue.back(one)
        return None

    async def _conclude(self, current: Request, answer: Answer, todo: list[Request]) -> float | None:
        """Do what an answer asks for; `todo` ends with the request that it is for."""
        if answer.verdict is Verdict.TAKEN:
            todo.pop()
            self.breaker.worked()
            await self._queue.settle(current, Outcome.SENT)
            self._desk.changed()
            return None
        if answer.verdict is Verdict.TOO_LARGE and current.count > 1:
            todo.pop()
            halves = [await self._queue.build(self._lane, some) for some in cut.halves(current.pieces) if some]
            todo += [half for half in halves if half is not None]
            return None
        if answer.verdict in (Verdict.REFUSED, Verdict.TOO_LARGE):
            todo.pop()
            self.breaker.worked()
            self._desk.refused(self._lane, cut.names(current.raw), current.count)
            await self._queue.settle(current, Outcome.REFUSED)
            self._desk.changed()
            return None
        if answer.verdict is Verdict.CODING and self._queue.plainer(self._lane, current.coding):
            todo.pop()
            if (again := await self._queue.build(self._lane, current.pieces)) is not None:
                todo.append(again)
            return None
        return self.breaker.failed(answer.asked)
