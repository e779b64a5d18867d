"""Floor 3: when an instance is due. Pure arithmetic: the runner does the waiting."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from math import floor
from typing import Protocol

from vedette.cron import next_cron

SOON = 10.0
"""Seconds within which the first run of each instance begins, as they are spread over them."""
_NEAR = 1e-6
_ASK_AGAIN = 60.0
_MISSED = 3600.0


class Ticks(Protocol):
    """The due times of one instance, on the event loop's monotonic clock, in seconds."""

    @property
    def due(self) -> float:
        """When the next run is due."""
        ...

    def adjust(self, now: float, wall: float) -> None:
        """Called now and then during a long wait: the wall clock may have been set."""
        ...

    def catch_up(self, now: float, wall: float) -> int:
        """Woken at `now`: if later ticks have passed too (a suspend), move on to the last of them; count the rest."""
        ...

    def advance(self, now: float, wall: float) -> int:
        """A run ended at `now`: move on to the next tick after it; count those that fell due meanwhile."""
        ...


def spread(key: str, span: float) -> float:
    """A fixed pseudo-random number in [0, span) for this key: instances of many agents do not act in step."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * span


class IntervalTicks:
    """Ticks at wall times congruent to the instance's phase modulo the interval, without drift.

    An instance whose phase is further away than it should begin has one more tick soon after its start.

    Args:
        key: instance id; its hash is the phase.
        interval: seconds between ticks.
        now: monotonic time.
        wall: Unix time at `now`; the phase refers to it, so that a restart keeps it.
        soon: seconds within which the first run is to begin.
    """

    def __init__(self, key: str, interval: float, now: float, wall: float, soon: float = SOON) -> None:
        self.interval = interval
        self._base = now + (spread(key, interval) - wall) % interval
        self._index = 0
        self._early: float | None = None
        if self._base - now > soon:
            self._early = now + spread(f"{key} start", soon)

    @property
    def due(self) -> float:
        """When the next run is due."""
        return self._early if self._early is not None else self._base + self._index * self.interval

    def adjust(self, now: float, wall: float) -> None:
        """See `Ticks`; intervals do not follow the wall clock."""

    def catch_up(self, now: float, wall: float) -> int:
        """See `Ticks`."""
        if self._early is not None:
            return 0
        latest = floor((now - self._base) / self.interval + _NEAR)
        skipped = max(0, latest - self._index)
        self._index += skipped
        return skipped

    def advance(self, now: float, wall: float) -> int:
        """See `Ticks`."""
        if self._early is not None:
            self._early = None
            after = self._index
        else:
            after = self._index + 1
        self._index = max(after, floor((now - self._base) / self.interval + _NEAR) + 1)
        return self._index - after

    def leave_out(self, count: int) -> None:
        """Move on by so many ticks more: an instance that misbehaved runs less often."""
        self._index += count


class OwnTicks:
    """Ticks of a check that knows itself when it is due: it catches up on its own, so none is ever skipped.

    Args:
        key: instance id; where the check is due at once, its hash spreads the start over some seconds.
        next_due: Unix time of the first run after a Unix time.
        now: monotonic time.
        wall: Unix time at `now`.
        soon: seconds within which a run that is due at once is to begin.
    """

    def __init__(
        self, key: str, next_due: Callable[[float], float | None], now: float, wall: float, soon: float = SOON / 5
    ) -> None:
        self._next_due = next_due
        self.due = max(now + self._wait(wall), now + spread(f"{key} start", soon))
        """When the next run is due."""

    def _wait(self, wall: float) -> float:
        following = self._next_due(wall)
        return _ASK_AGAIN if following is None else max(0.0, following - wall)

    def adjust(self, now: float, wall: float) -> None:
        """See `Ticks`."""
        self.due = now + self._wait(wall)

    def catch_up(self, now: float, wall: float) -> int:
        """See `Ticks`."""
        return 0

    def advance(self, now: float, wall: float) -> int:
        """See `Ticks`."""
        self.due = now + self._wait(wall)
        return 0


class CronTicks:
    """Ticks where a cron expression matches the wall clock of a time zone (daylight saving as in Debian's cron).

    Args:
        expression: as in crontab(5).
        timezone: IANA name.
        now: monotonic time.
        wall: Unix time at `now`.
        ran: Unix time of the last run on the agent that had the lease before. A tick since then that is at most an
            hour old fell into the takeover, and is due at once.
    """

    def __init__(self, expression: str, timezone: str, now: float, wall: float, ran: float | None = None) -> None:
        self._expression = expression
        self._timezone = timezone
        self._move(now, wall)
        if ran is not None:
            missed = next_cron(expression, timezone, max(ran, wall - _MISSED))
            if missed <= wall:
                self._wall_due, self.due = missed, now

    def _move(self, now: float, wall: float) -> None:
        self._wall_due = next_cron(self._expression, self._timezone, wall)
        self.due = now + self._wall_due - wall
        """When the next run is due."""

    def adjust(self, now: float, wall: float) -> None:
        """See `Ticks`."""
        self.due = now + self._wall_due - wall

    def catch_up(self, now: float, wall: float) -> int:
        """See `Ticks`."""
        return self._count(wall)

    def advance(self, now: float, wall: float) -> int:
        """See `Ticks`."""
        skipped = self._count(wall)
        self._move(now, max(wall, self._wall_due))
        self.due = now + self._wall_due - wall
        return skipped

    def _count(self, wall: float) -> int:
        skipped = 0
        while (following := next_cron(self._expression, self._timezone, self._wall_due)) <= wall:
            self._wall_due = following
            skipped += 1
        return skipped
