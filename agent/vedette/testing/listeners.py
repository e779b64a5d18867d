"""Serving a listener in a test: it runs beside the test, which sends to it and waits for what comes out."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vedette.emit import Emit
from vedette.errors import CheckError
from vedette.testing.checks import accept, channel_of, closing, deadline, validated
from vedette.testing.results import Results

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from vedette.check import Listener
    from vedette.emit import Channel
    from vedette.metrics import Batch, Metric, Sample, ServiceCheck

_GRACE = 2.0


class Serving(Results):
    """A listener at work. `samples`, `statuses`, `value` and `status` speak of all that was flushed so far.

    Attributes:
        check: the listener itself, for instance to ask it which port it got.
    """

    def __init__(
        self, check: Listener[Any], channel: Channel, metrics: Iterable[Metric], state: dict[str, Any]
    ) -> None:
        super().__init__(channel, metrics, state)
        self.check: Any = check
        self._news = asyncio.Event()
        self._ended = False

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
            AssertionError: it did not happen in time, or the listener ended by itself.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (len(self.batches) >= what if isinstance(what, int) else what(self)):
                    if self._ended:
                        raise AssertionError(f"the listener ended by itself: {self.error or 'see what it raised'}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            names = ", ".join(sorted({sample.name for sample in self.samples})) or "none"
            told = f"{len(self.batches)} batches with these metrics: {names}"
            raise AssertionError(f"not within {timeout:g} s; there are {told}") from None

    async def flush(self, batch: Batch) -> None:
        """Take a batch over, as the agent does when the listener flushes."""
        accept(self, batch)
        self._news.set()

    def ended(self, task: asyncio.Task[None]) -> None:
        """Note that `serve` has ended, and why."""
        self._ended = True
        error = None if task.cancelled() else task.exception()
        self.error = error if isinstance(error, CheckError) else None
        self._news.set()


@asynccontextmanager
async def serve_check(
    listener_class: type[Listener[Any]], options: Mapping[str, Any], *, state: Mapping[str, Any] | None = None
) -> AsyncIterator[Serving]:
    """Open a listener and have it serve while the body of `async with` runs; then stop and close it.

        async with serve_check(Statsd, {"port": 0}) as serving:
            send(b"hits:1|c", port=serving.check.port)
            await serving.wait_for(lambda serving: serving.values("hits") == [1])

    Args:
        listener_class: the listener.
        options: one instance as written in YAML, with `${…}` already resolved.
        state: what was committed before.

    Raises:
        ValueError: the options are not valid; each problem is a line of the text.
        CheckError: it could not open.
        TimeoutError: opening, stopping or closing took longer than the agent allows.
        Exception: what `serve` raised, unless it was a `CheckError`: that one is in `error`.
    """
    config = validated(listener_class, options)
    kept = dict(state or {})
    check = listener_class(config, MappingProxyType(kept))
    serving = Serving(check, channel_of(listener_class, config), listener_class.declare(config), kept)
    async with closing(check):
        async with deadline("open", config.deadline):
            await check.open()
        task = asyncio.create_task(check.serve(Emit(serving.channel, time.time(), serving.flush, time.time)))
        task.add_done_callback(serving.ended)
        try:
            yield serving
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE)
        if not task.done():
            raise TimeoutError(f"serve did not end within {_GRACE:g} s of being cancelled")
        if not task.cancelled() and not isinstance(task.exception(), CheckError):
            task.result()
