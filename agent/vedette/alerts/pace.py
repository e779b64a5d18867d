"""When one notifier is told what: a rate, pauses after failures, and groups that shrink until they get through."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vedette.alerts.letters import Letter

_FIRST: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds: the ceiling of the pause after a failure, which doubles from the first to the longest."""


class Pace:
    """When the next message may go, and how many alerts it may hold.

    After a failure there is a pause, drawn evenly from 0 to a ceiling that doubles with each, at least as long as the
    receiver asks. Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (full jitter). A group that failed is
    tried again as halves, so that one alert on which the receiver fails takes no others with it for long; what arrives
    doubles the size again.

    Args:
        per_minute: messages a minute, beyond a burst of as many.
        window: seconds in which alerts are collected for one message; 0 where each is a message.
        most: alerts that a message holds at most.

    Attributes:
        failures: attempts that failed since the last that did not.
        limit: alerts that the next message may hold.
    """

    def __init__(self, per_minute: int, window: float, most: int) -> None:
        self.failures = 0
        self.limit = most
        self._window = window
        self._most = most
        self._burst = self._tokens = float(per_minute)
        self._filled = -math.inf
        self._not_before = -math.inf

    def next(self, heads: list[Letter], now: float) -> tuple[float, list[Letter]]:
        """When the next message may go, by the event loop's time, and what it tells; never, and nothing, if none waits.

        What failed before shares no message with what did not.

        Args:
            heads: what may be told, the most urgent first.
            now: by the event loop's time.
        """
        due = math.inf
        chosen: list[Letter] = []
        for tried in dict.fromkeys(one.attempts > 0 for one in heads):
            letters = self._group([one for one in heads if (one.attempts > 0) is tried])
            moment = max(self._collected(letters), now)
            if moment < due:
                due, chosen = moment, letters
        return max(due, self._allowed(now)), chosen

    def _group(self, letters: list[Letter]) -> list[Letter]:
        """The first of these and, where that can be, others of them."""
        if not self._window or letters[0].alone:
            return letters[:1]
        return [one for one in letters if not one.alone][: self.limit]

    def _collected(self, letters: list[Letter]) -> float:
        """When no more are waited for, to be told together with these."""
        urged = any(one.attempts or one.alone or one.last for one in letters)
        if not self._window or urged or len(letters) >= self.limit:
            return -math.inf
        return min(one.arrived for one in letters) + self._window

    def _allowed(self, now: float) -> float:
        """When rate and pause let a message go."""
        rate = self._burst / 60
        if self._filled > -math.inf:
            self._tokens = min(self._burst, self._tokens + (now - self._filled) * rate)
        self._filled = now
        return max(self._not_before, -math.inf if self._tokens >= 1 else now + (1 - self._tokens) / rate)

    def spend(self) -> None:
        """A message goes."""
        self._tokens -= 1

    def failed(self, size: int, after: float | None) -> None:
        """It did not arrive.

        Args:
            size: alerts that it held.
            after: seconds of pause that the receiver asks for.
        """
        ceiling = min(_FIRST * 2 ** min(self.failures, 16), _LONGEST)
        self.failures += 1
        self.limit = max(1, size // 2)
        pause = max(random.uniform(0, ceiling), after or 0.0)  # noqa: S311 - spreads retries, guards nothing
        self._not_before = asyncio.get_running_loop().time() + pause

    def worked(self) -> None:
        """It arrived."""
        self.failures = 0
        self.limit = min(self._most, self.limit * 2)
        self._not_before = -math.inf
