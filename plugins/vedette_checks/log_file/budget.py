"""How much may be handed on: lines and bytes in a second, on average over ten."""

from __future__ import annotations

import time
from collections.abc import Callable

_SPAN = 10.0


class Allowance:
    """What may be used up now; it grows with time, up to what ten seconds bring.

    Args:
        rate: how much a second brings; None is no limit.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._left = (rate or 0.0) * _SPAN
        self._at = clock()

    @property
    def left(self) -> float:
        """How much is left; negative where more was used than there was."""
        if self._rate is None:
            return float("inf")
        now = self._clock()
        self._left = min(self._rate * _SPAN, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left

    def use(self, amount: float) -> None:
        """Take so much away."""
        self._left -= amount

    @property
    def wait(self) -> float:
        """Seconds until something is left."""
        left = self.left
        return 0.0 if left > 0 or self._rate is None else -left / self._rate + 0.001
