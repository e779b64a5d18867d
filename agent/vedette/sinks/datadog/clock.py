"""What time it is for the intake, and whether that may be relied on: what is settled by it is settled for good."""

from __future__ import annotations

import time
from dataclasses import dataclass

_CLOSE = 10.0
_JUMP = 15.0
_DOUBTED = 60.0
_ALONE = 3600.0
_ABSURD = 86_400.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A look at the clock.

    Attributes:
        earliest: Unix seconds that it is at least.
        latest: Unix seconds that it is at most.
        sure: whether it runs steadily, so that what is too old by it may be given up.
        confirmed: whether the intake agreed since, so that what is ahead of it may be given up too.
    """

    earliest: float
    latest: float
    sure: bool
    confirmed: bool


class Clock:
    """This machine's clock, held against one that only runs, and against the intake's once that is known.

    Nothing is sure for a minute after a jump, nor before the intake has told its time since the start or the jump (for
    an hour at most): a machine may start with a wrong clock. Where the intake's time is further off than 10 s either
    of them may be right, since a relay's clock may be wrong too: then it is some time between them. What is off by more
    than a day is not believed.
    """

    def __init__(self) -> None:
        self._wall = time.time() - time.monotonic()
        self._doubted = self._jumped = time.monotonic()
        self._theirs: tuple[float, float] | None = None

    def measured(self, ahead: float, slack: float) -> None:
        """An answer said how far the intake is ahead, give or take so much, in seconds."""
        if slack <= _CLOSE and abs(ahead) < _ABSURD:
            running = time.monotonic()
            self._theirs = time.time() - running + ahead, running

    def look(self) -> Moment:
        """What time it is."""
        running = time.monotonic()
        wall = time.time() - running
        theirs, measured = self._theirs or (wall, -1.0)
        if abs(theirs - wall) <= _CLOSE:
            theirs = wall
        if abs(wall - self._wall) > _JUMP:
            self._jumped, self._doubted = running, running + _DOUBTED
        self._wall = wall
        told = measured >= self._jumped
        sure = running >= self._doubted and (told or running >= self._jumped + _ALONE)
        return Moment(min(wall, theirs) + running, max(wall, theirs) + running, sure, sure and told)
