"""Serving a listener in a test: it runs beside the test, which sends to it and waits for what comes out."""

from __future__ import annotations

import asyncio
import time as clock
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vedette.check import Listener
from vedette.emit import Emit
from vedette.errors import CheckError
from vedette.testing.checks import accept, channel_of, closing, deadline, validated
from vedette.testing.results import Results

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from vedette.metrics import Batch, Sample, ServiceCheck


class Serving(Results):
    """A listener at work. `samples`, `statuses`, `value` and `status` speak of all that was flushed so far."""

    check: Any
    """The listener itself, for instance to ask it for the port it listens on."""
    task: asyncio.Task[None]
    """Its `serve`."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every sample flushed so far."""
        return tuple(sample for batch in self.batches for sample in batch.samples)

    @property
    def statuses(self) -> tuple[ServiceCheck, ...]:
        """Every service check flushed so far."""
        return tuple(status for batch in self.batches for status in batch.statuses)

    async def wait_for(self, what: int | Callable[[Serving], bool], timeout: float = 5.0) -> None:
        """Wait until so many batches have been flushed, or until the predicate holds.

        Args:
            what: a number of batches in all, or a function of this object.
            timeout: seconds.

        Raises:
            AssertionError: it did not happen in time, or the listener ended by itself; what it raised is the cause.
        """
        happened = (lambda: len(self.batches) >= what) if isinstance(what, int) else (lambda: what(self))
        try:
            async with asyncio.timeout(timeout):
                while not happened():
                    await self._news()
        except TimeoutError:
            names = sorted({sample.name for sample in self.samples})
            told = f"{len(self.batches)} batches, {len(self.samples)} samples: {', '.join(names) or 'nothing'}"
            raise AssertionError(f"not within {timeout:g} s; there are {told}") from None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._flushed = asyncio.Event()

    async def _news(self) -> None:
        self._flushed.clear()
        flushed = asyncio.create_task(self._flushed.wait())
        try:
            await asyncio.wait({flushed, self.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            flushed.cancel()
        if self.task.done() and not flushed.done():
            raise AssertionError("the listener ended by itself") from self.task.exception()

    async def _flush(self, batch: Batch) -> None:
        accept(self, batch)
        self._flushed.set()
