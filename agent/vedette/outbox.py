"""Floor 3: a bounded queue for each sink, and the supervisor that keeps its sink running."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette.filters import NameFilter
    from vedette.metrics import Batch, Sample
    from vedette.sink import Sink

T = TypeVar("T")

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

    Of those that wait, the ones go first that nothing waits for: a window or a log line is in no later batch.

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
        self._in_hand: list[tuple[Batch, Receipt | None]] = []
        self._suspects = 0
        """Batches at the queue's head that were in hand when the sink failed: each is given out alone now."""
        self._alone = False
        self._closed = False
        self._goes_on = False
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

    @property
    def goes_on(self) -> bool:
        """Whether it is closed although the agent goes on, without this sink or with another in its place."""
        return self._goes_on

    @property
    def ended(self) -> bool:
        """Whether there will be nothing more to take."""
        return self._closed and not self._queue

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
            self._drop_one()
        if not self.has_room:
            self._room.clear()
        self._wake_sink()

    def as_sent(self, named: Mapping[str, T]) -> dict[str, T]:
        """What belongs to each metric, by the name with which it gets to the sink; without those that never do."""
        if self._names is None:
            return dict(named)
        names = self._names
        return {name: one for before, one in named.items() if (name := names(before)) is not None}

    def _drop_one(self) -> None:
        """Drop the oldest batch, where that matters one that nothing waits for, even if it is the newest."""
        place = next((at for at, entry in enumerate(self._queue) if entry[1] is None), 0) if self.durable else 0
        entry = self._queue[place]
        del self._queue[place]
        self._suspects -= place < self._suspects
        self._size -= len(entry[0])
        self._drop(entry)

    @property
    def has_room(self) -> bool:
        """Whether listeners may go on: the other half of the queue is for checks, which cannot wait."""
        return self._closed or 2 * self._size <= self._limit

    async def room(self) -> None:
        """Wait until there is room: how a listener is slowed down to the sink's pace."""
        await self._room.wait()

    async def closing(self, timeout: float) -> None:
        """Wait so long, or until the outbox is closed."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), timeout)

    def close(self, *, goes_on: bool = False) -> None:
        """Let iteration end once the queue is empty.

        Args:
            goes_on: whether the agent does, without this sink or with another in its place.
        """
        self._closed = True
        self._goes_on = goes_on
        self._closing.set()
        self._room.set()
        self._wake_sink()

    def rewind(self) -> None:
        """The sink failed: give it what was in hand once more, one by one; what fails it for the second time goes."""
        entries, self._in_hand = self._in_hand, []
        if self._alone and entries:
            self._alone = False
            self._suspects -= 1
            self._drop(entries.pop())
        self._suspects += len(entries)
        self._queue.extendleft(reversed(entries))
        self._size += sum(len(batch) for batch, _ in entries)

    def _drop(self, entry: tuple[Batch, Receipt | None]) -> None:
        batch, receipt = entry
        self.dropped += len(batch)
        if receipt is not None:  # it will never be sent: what waits for it must not wait for ever
            receipt.settle()

    def abandon(self) -> None:
        """Count everything that is left as dropped: the agent stops and the sink did not finish in time.

        Nothing of it is settled: what it stood for is collected again at the next start. Only where the agent goes on
        it is, lest a listener wait for it for ever.
        """
        left = [*self._in_hand, *self._queue]
        self.dropped += sum(len(batch) for batch, _ in left)
        self._queue.clear()
        self._size = self._suspects = 0
        self._in_hand = []
        for _, receipt in left if self._goes_on else ():
            if receipt is not None:
                receipt.settle()

    def __aiter__(self) -> Outbox:
        return self

    async def __anext__(self) -> Batch:
        self.release()()
        taken = await self._take(1)
        if not taken:
            raise StopAsyncIteration
        return taken[0]

    async def take(self, timeout: float | None = None) -> list[Batch]:
        """Everything that waits, as soon as there is anything; it stays in hand with what was taken before.

        Args:
            timeout: seconds to wait; None waits until there is something, or nothing more to come.

        Returns:
            The batches, oldest first; none after the timeout and at the end.
        """
        if self._alone:  # what failed the sink before is to be released before anything else is taken
            return []
        try:
            async with asyncio.timeout(timeout):
                return await self._take(None)
        except TimeoutError:
            return []

    def release(self, only: Callable[[Batch], bool] | None = None) -> Callable[[], None]:
        """The sink is through with what is in hand: it will not be given it again.

        Args:
            only: says of a batch whether it is through with this one; None is all.

        Returns:
            To be called once that is safe from a kill too: settles the receipts.
        """
        done = [entry for entry in self._in_hand if only is None or only(entry[0])]
        self._in_hand = [] if only is None else [entry for entry in self._in_hand if not only(entry[0])]
        self.delivered += sum(len(batch) for batch, _ in done)
        if self._alone and done:
            self._alone = False
            self._suspects -= 1
        receipts = [receipt for _, receipt in done if receipt is not None]

        def settle() -> None:
            for receipt in receipts:
                receipt.settle()

        return settle

    async def _take(self, most: int | None) -> list[Batch]:
        while True:
            while not self._queue:
                if self._closed:
                    return []
                self._wake = asyncio.get_running_loop().create_future()
                try:
                    await self._wake
                finally:
                    self._wake = None
            if self._suspects:
                if self._in_hand:
                    return []
                most, self._alone = 1, True
            if taken := self._valid([self._queue.popleft() for _ in range(most or len(self._queue))]):
                self._in_hand += taken
                return [batch for batch, _ in taken]

    def _valid(self, entries: list[tuple[Batch, Receipt | None]]) -> list[tuple[Batch, Receipt | None]]:
        """Those that may still be sent. Others are counted, not settled: whoever has the lease collects them again."""
        self._size -= sum(len(batch) for batch, _ in entries)
        if self.has_room:
            self._room.set()
        valid = [entry for entry in entries if not _is_void(entry[0])]
        self.fenced += sum(len(batch) for batch, _ in entries) - sum(len(batch) for batch, _ in valid)
        if self._alone and not valid:
            self._alone = False
            self._suspects -= 1
        return valid

    def _wake_sink(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _is_void(batch: Batch) -> bool:
    """Whether another agent may have sent newer values of these series; that they end is always news."""
    return batch.lease is not None and not batch.closed and not batch.lease.lasts


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
