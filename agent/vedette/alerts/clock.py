"""Time that goes on evenly though somebody sets the clock: what was seen stays as old as it is."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.metrics import Batch

log = logging.getLogger("vedette.alerts")

_STEP: Final = 1.0
"""Seconds between two looks that make a step; less is a clock being disciplined, and is followed."""

_EXACT: Final = 1_024
"""Parts of a second that offsets are made of: a power of 2, so that times plus and minus them are what they were."""


class Steady:
    """Unix seconds as the clock said them at the start, plus what has passed since.

    Args:
        wall: Unix seconds; may be set at any moment.
        even: seconds that only pass, such as `time.monotonic`; None trusts `wall`.
    """

    def __init__(self, wall: Callable[[], float], even: Callable[[], float] | None = None) -> None:
        self._wall = wall
        self._even = even
        self._ahead: float | None = None
        self.offset = 0.0
        """What the clock was set back by since the start; negative if it was set forward."""
        self._before = 0.0
        self.steps = 0
        """How often it was set so far."""

    def now(self) -> float:
        """Steady seconds."""
        wall = self._wall()
        if self._even is None:
            return wall
        ahead = wall - self._even()
        if self._ahead is not None and abs(ahead - self._ahead) >= _STEP:
            self.steps += 1
            self._before = self.offset
            self.offset -= round((ahead - self._ahead) * _EXACT) / _EXACT
            log.warning("the clock was set %+.1f s: what rules have seen stays as old as it is", ahead - self._ahead)
        self._ahead = ahead
        return wall + self.offset

    def of(self, moment: float, now: float) -> float:
        """Steady seconds of a moment by the clock, as it was before a step or is after it: whichever is nearer."""
        one, other = moment + self.offset, moment + self._before
        return min(one if abs(now - one) <= abs(now - other) else other, now)

    def wall(self, moment: float) -> float:
        """The clock's time of steady seconds; 0 stays 0, which means never."""
        return moment - self.offset if moment else 0.0

    def steadied(self, batch: Batch, now: float) -> Batch:
        """A batch with its times by this clock; what is sent again has the same time each time."""
        samples, offset = batch.samples, self.offset
        if any(one.time is not None for one in samples):
            samples = tuple(one if one.time is None else one._replace(time=one.time + offset) for one in samples)
        return replace(batch, time=self.of(batch.time, now), samples=samples)
