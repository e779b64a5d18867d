"""An event loop whose time jumps to the next timer, so that a thousand ticks take milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Returns at once, moving the clock on by the time it would have waited when nothing else is there to do."""

    now = 1_000.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events and timeout is not None:
            self.now += max(0.0, timeout)
        elif not events:
            return super().select(None)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on a clock that nobody waits for."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now

    def stall(self, seconds: float) -> None:
        """What a check that blocks the loop does: time passes and nothing else happens."""
        self._jumping.now += seconds


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own whose time is virtual."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The running virtual loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
