"""An event loop in a thread of its own, for a client library that keeps its loop for tens of milliseconds at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


_LONGEST_JOIN = 1.0


class Side:
    """The loop: it runs from the making of this object to `stop`. The interpreter shares itself out every 5 ms."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name="vedette-aws", daemon=True)
        self._thread.start()

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it there and wait for it here; a cancellation here is one there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def stop(self) -> None:
        """End the loop and the thread. What still runs there is cancelled; look-ups of names are not waited for."""
        try:
            await self.do(_cancel_all())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, _LONGEST_JOIN)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
