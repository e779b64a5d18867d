"""Floor 3: a bounded queue for each sink, and the supervisor that keeps its sink running."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.filters import NameFilter
    from vedette.metrics import Batch, Sample
    from vedette.sink import Sink

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Receipt:
    """Waits until so many outboxes have settled a batch, then does what was waiting for it, such as a commit.

    Args:
        pending: outboxes that will settle it; with 0 it is done at once.
        then: what to do.
    """

    def __init__(self, pending: int, then: Callable[[], None]) -> None:
        self._pending = pending
        self._then = then
        if not pending:
            then()

    def settle(self) -> None:
        """One outbox is through with the batch: its sink has it, or it was dropped and counted."""
        self._pending -= 1
        if not self._pending:
            self._then()


class Outbox:
    """Batches waiting for one sink. A periodic check never waits for it: when it is full the oldest batch goes.

    Args:
        limit: most samples (statuses, events, logs) that may wait; one larger batch is taken when nothing waits.
        names: the sink's compiled `metrics:` option, or None.
        durable: whether a batch is settled only when the sink is through with it, and not as soon as it is queued.
    """

    def __init__(self, limit: int, names: NameFilter | None = None, *, durable: bool = False) -> None:
        self.delivered = 0
        """Samples that the sink has taken and finished with."""
        self.dropped = 0
        """Samples that were given up because the queue was full or the sink failed on them twice."""
        self.fenced = 0
        """Samples that the sink did not get since the lease had ended under which they were collected."""
        self.durable = durable
        self._limit = limit
        self._names = names
        self._queue: deque[tuple[Batch, Receipt | None]] = deque()
        self._size = 0
        self._in_hand: tuple[Batch, Receipt | None] | None = None
        self._second_try = False
        self._closed = False
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()
        self._closing = asyncio.Event()

    @property
    def queued(self) -> int:
        """Samples waiting."""
        return self._size

    @property
    def waiting(self) -> int:
        """Batches waiting."""
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """Whether iteration ends once the queue is empty."""
        return self._closed

    def put(self, batch: Batch, receipt: Receipt | None = None) -> None:
        """Queue a batch; never waits. Beyond the limit the oldest batches are dropped and counted.

        Args:
            batch: what to send.
            receipt: told once the batch is settled.
        """
        if self._names is not None:
            batch = _filtered(batch, self._names)
        self._queue.append((batch, receipt))
        self._size += len(batch)
        while self._size > self._limit and len(self._queue) > 1:
            oldest = self._queue.popleft()
            self._size -= len(oldest[0])
            self._drop(oldest)
        if self._size >= self._limit:
            self._room.clear()
        self._wake_sink()

    async def room(self) -> None:
        """Wait until the queue is below its limit: how a listener is slowed down to the sink's pace."""
        await self._room.wait()

    async def closing(self, timeout: float) -> None:
        """Wait so long, or until the outbox is closed."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), timeout)

    def close(self) -> None:
        """Let iteration end once the queue is empty."""
        self._closed = True
        self._closing.set()
        self._room.set()
        self._wake_sink()

    def rewind(self) -> None:
        """The sink failed: give it the batch in hand once more, and drop it if this was already the second time."""
        entry, self._in_hand = self._in_hand, None
        if entry is None:
            return
        if self._second_try:
            self._second_try = False
            self._drop(entry)
        else:
            self._second_try = True
            self._queue.appendleft(entry)
            self._size += len(entry[0])

    def _drop(self, entry: tuple[Batch, Receipt | None]) -> None:
        batch, receipt = entry
        self.dropped += len(batch)
        if receipt is not None:  # it will never be sent: what waits for it must not wait for ever
            receipt.settle()

    def abandon(self) -> None:
        """Count everything that is left as dropped: the agent stops and the sink did not finish in time.

        Nothing of it is settled: what it stood for is collected again at the next start.
        """
        self.dropped += self._size + (len(self._in_hand[0]) if self._in_hand else 0)
        self._queue.clear()
        self._size = 0
        self._in_hand = None

    def __aiter__(self) -> Outbox:
        return self

    async def __anext__(self) -> Batch:
        if self._in_hand is not None:
            (done, receipt), self._in_hand = self._in_hand, None
            self.delivered += len(done)
            self._second_try = False
            if receipt is not None:
                receipt.settle()
        while True:
            while not self._queue:
                if self._closed:
                    raise StopAsyncIteration
                self._wake = asyncio.get_running_loop().create_future()
                try:
                    await self._wake
                finally:
                    self._wake = None
            entry = self._queue.popleft()
            self._size -= len(entry[0])
            if self._size < self._limit:
                self._room.set()
            if not _is_void(entry[0]):
                self._in_hand = entry
                return entry[0]
            self.fenced += len(entry[0])  # and not settled: whoever has the lease now collects it again

    def _wake_sink(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _is_void(batch: Batch) -> bool:
    """Whether another agent may have sent newer values of these series; that they end is always news."""
    return batch.lease is not None and not batch.closed and not batch.lease.held


def _filtered(batch: Batch, names: NameFilter) -> Batch:
    kept: list[Sample] = []
    for sample in batch.samples:
        name = names(sample.name)
        if name is not None:
            kept.append(sample if name == sample.name else sample._replace(name=name))
    return replace(batch, samples=tuple(kept))


async def supervise(sink: Sink[Any], outbox: Outbox) -> None:
    """Run a sink until its outbox is closed and empty, starting it again with a growing pause when it fails."""
    pause = _FIRST_PAUSE
    while True:
        before = outbox.delivered
        try:
            await sink.run(outbox)
        except (Exception, SystemExit) as error:
            sink.failed(describe(error))
            sink.log.debug("sink failed", exc_info=error)
            outbox.rewind()
        else:
            if outbox.closed and not outbox.waiting:
                return
            sink.failed("the sink ended before the agent did")
        if outbox.closed:
            outbox.abandon()
            return
        if outbox.delivered > before:
            pause = _FIRST_PAUSE
        await outbox.closing(random.uniform(pause / 2, pause))  # noqa: S311 - spreads retries, guards nothing
        pause = min(pause * 2, _LONGEST_PAUSE)


def describe(error: BaseException) -> str:
    """An exception in one line for people: its text, or its type where the text is empty or needs it."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
