"""Window arithmetic: the clock of a time zone cut into windows without gap or overlap, over daylight saving too.

Pure: no clock is read here. All times are whole Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_HOUR, _DAY = 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to, not including, `end`: Unix seconds."""

    start: int
    end: int


def divides_days(every: float) -> bool:
    """Whether windows of so many seconds fit the clock: whole seconds that divide a day, or whole days."""
    return every >= 1 and every == int(every) and (_DAY % every == 0 or every % _DAY == 0)


class Grid:
    """All windows of one length in one time zone.

    - Up to an hour they lie on the zone's own clock face: a day of 23 or 25 hours has 23 or 25 windows of an hour.
      Where the clock is set by less than a window (30 minutes on Lord Howe Island), one window is cut there.
    - Longer ones begin when a wall clock shows midnight plus a multiple of `every` (the first time, where it shows
      it twice; when it is set, where it never shows it): a day has 23 to 25 hours, and of windows of a few hours
      the one over the change is longer or shorter. Several days are counted from a Monday: `7d` is a week.

    Args:
        every: length in seconds, see `divides_days`.
        zone: whose clock.
    """

    def __init__(self, every: float, zone: ZoneInfo) -> None:
        self.every = int(every)
        self._zone = zone
        self._last = Window(0, 0)

    def at(self, time: float) -> Window:
        """The window that holds this time."""
        if not self._last.start <= time < self._last.end:
            whole = int(time // 1)
            self._last = self._short(whole) if self.every <= _HOUR else self._long(whole)
        return self._last

    def after(self, window: Window) -> Window:
        """The next one."""
        return self.at(window.end)

    def closed(self, time: float) -> Window:
        """The last one that has ended at this time."""
        return self.at(self.at(time).start - 1)

    def back(self, window: Window, start: int) -> Iterator[Window]:
        """This window and those before it, the latest first, as long as they end after `start`."""
        while window.end > start:
            yield window
            window = self.at(window.start - 1)

    def count(self, start: int, end: int) -> int:
        """How many windows lie between two of their borders; windows that a clock change cut short may not count."""
        return max(0, round((end - start) / self.every))

    def _short(self, time: int) -> Window:
        offset = self._offset(time)
        start = time - (time + offset) % self.every
        end = start + self.every
        if (self._offset(start) - offset) % self.every:
            start = self._change(start, time)
        if (self._offset(end) - offset) % self.every:
            end = self._change(time, end)
        return Window(start, end)

    def _long(self, time: int) -> Window:
        days = max(1, self.every // _DAY)
        today = datetime.fromtimestamp(time, self._zone).date().toordinal()
        first = (today - 1) // days * days + 1
        borders = {
            self._instant(date.fromordinal(first + block * days), seconds)
            for block in (-1, 0, 1, 2)
            for seconds in range(0, _DAY, self.every)
        }
        return Window(max(one for one in borders if one <= time), min(one for one in borders if one > time))

    def _instant(self, day: date, seconds: int) -> int:
        """When the zone's clock shows so many seconds after this day's midnight for the first time."""
        naive = datetime(day.year, day.month, day.day) + timedelta(seconds=seconds)
        before = _seconds(naive.replace(tzinfo=self._zone).utcoffset())
        after = _seconds(naive.replace(tzinfo=self._zone, fold=1).utcoffset())
        time = int(naive.replace(tzinfo=UTC).timestamp()) - before
        if after <= before:
            return time
        return self._change(time - (after - before), time)  # the clock jumps over it: when it does

    def _offset(self, time: int) -> int:
        return _seconds(datetime.fromtimestamp(time, self._zone).utcoffset())

    def _change(self, low: int, high: int) -> int:
        """The first second of the offset that holds at `high` and not yet at `low`."""
        offset = self._offset(high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._offset(middle) == offset else (middle, high)
        return high


def _seconds(offset: timedelta | None) -> int:
    return 0 if offset is None else int(offset.total_seconds())
