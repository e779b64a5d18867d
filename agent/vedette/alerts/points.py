"""The points of windows and plots: times and values side by side, where there are many several of them as one.

Columns of doubles and not an object for each sample: rules are as fast as what they look at is near, and what a
condition asks of a column C answers.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Bundle = tuple[float, float, float, float]
"""What stands for several samples: their number, sum, smallest and largest."""
Point = tuple[float, float, float, float, float, float]
"""Time, number of samples, sum, smallest, largest, last."""

MOST_POINTS: Final = 512
"""Points that are single samples; beyond them those of one slot of time become one."""
PLOTTED: Final = 120
_ROOM: Final = 16
_MORE_ROOM: Final = 128
_FOREVER: Final = float("inf")


class Points:
    """Points by time, as far back as somebody looks, and some that are older.

    Args:
        reach: seconds that somebody looks back.
        most: how many points may be single samples.
    """

    __slots__ = (
        "_before", "_limit", "_most", "_room", "_slot", "behind", "ends", "high", "highs", "low", "lows", "numbers",
        "reach", "times", "totals", "values",
    )  # fmt: skip

    def __init__(self, reach: float, most: int = MOST_POINTS) -> None:
        self.reach = reach
        self.times = array("d")
        self.values = array("d")
        """Of each point the last sample, which mostly is the only one."""
        self.totals = self.lows = self.highs = self.values
        """Of each point its samples' sum, smallest and largest: columns of their own once there is a bundle."""
        self.numbers: array[float] | None = None
        """Of each point how many samples it is; None where all are single ones."""
        self.ends = -_FOREVER
        """When the last of them will have left."""
        self.low, self.high = _FOREVER, -_FOREVER
        """None is less, none is more."""
        self.behind = _FOREVER
        """The earliest point that has changed after later ones had come; whoever keeps them resets it."""
        self._before = 0
        self._limit = self._room = 0
        """How many points there may be until room is made, and until the next is not simply added: it never is among
        bundles."""
        self._most = most
        self._slot = reach / most

    @property
    def seen(self) -> int:
        """A number that grows with each that comes."""
        return self._before + len(self.values)

    @property
    def came(self) -> float:
        """When the last of them was taken; 0 if there is none."""
        return self.times[-1] if self.times else 0.0

    def put(self, time: float, value: float, _until: float = 0.0) -> None:
        """A sample came."""
        ends, values = time + self.reach, self.values
        if ends >= self.ends and len(values) < self._room:
            self.ends = ends
            self.times.append(time)
            values.append(value)
            if value > self.high:
                self.high = value
            if value < self.low:
                self.low = value
        else:
            self.put_bundle(time, (1.0, value, value, value), value)

    def put_bundle(self, time: float, bundle: Bundle, last: float, _until: float = 0.0, *, late: bool = False) -> None:
        """Several samples came at once, or one that may not simply be added; a late one is not the last of a point."""
        times = self.times
        if len(times) >= self._limit:
            self._make_room(time)
        if self.numbers is None and (len(times) >= self._most or bundle[0] != 1):
            self._bundle()
        self.high, self.low = max(self.high, bundle[3]), min(self.low, bundle[2])
        place = bisect_right(times, time)
        if place < len(times):
            self.behind = min(self.behind, times[place - 1] if place else time)
        many = len(times) >= self._most
        if many and place and time - times[place - 1] < self._slot:
            self._join(place - 1, bundle, self.values[place - 1] if late else last)
        elif many and place < len(times) and times[place] - time < self._slot:
            self._join(place, bundle, self.values[place])
        else:
            self._insert(place, time, bundle, last)
        self.ends = times[-1] + self.reach

    def columns(self) -> tuple[array[float], ...]:
        """Times and values; with bundles times, numbers, sums, smallest, largest and values."""
        if self.numbers is None:
            return self.times, self.values
        return self.times, self.numbers, self.totals, self.lows, self.highs, self.values

    def _insert(self, place: int, time: float, bundle: Bundle, last: float) -> None:
        row = (time, last) if self.numbers is None else (time, *bundle, last)
        for column, value in zip(self.columns(), row, strict=True):
            column.insert(place, value)

    def _join(self, place: int, bundle: Bundle, last: float) -> None:
        assert self.numbers is not None  # noqa: S101 - for type checkers
        self.numbers[place] += bundle[0]
        self.totals[place] += bundle[1]
        self.lows[place] = min(self.lows[place], bundle[2])
        self.highs[place] = max(self.highs[place], bundle[3])
        self.values[place] = last
        self._before += 1

    def _bundle(self) -> None:
        self.numbers = array("d", [1.0]) * len(self.times)
        self.totals, self.lows, self.highs = self.values[:], self.values[:], self.values[:]
        self._room = 0

    def _make_room(self, now: float) -> None:
        """Forget those that have left; there is the more room the more there are, so that it seldom comes to this."""
        old = bisect_right(self.times, now - self.reach)
        if old == len(self.times):
            self.clear()
        elif old:
            for column in self.columns():
                del column[:old]
            self._before += old
            self.low, self.high = min(self.lows), max(self.highs)
        live = len(self.times)
        self._limit = min(2 * live + _ROOM, max(self._most, live + _MORE_ROOM))
        self._room = self._limit if self.numbers is None else 0

    def adopt(self, columns: Sequence[array[float]]) -> None:
        """Have these, as `columns` gave them, where there is none yet."""
        self.times, self.values, self.numbers = columns[0], columns[-1], None
        self.totals = self.lows = self.highs = self.values
        if len(columns) > 2:
            self.numbers, self.totals, self.lows, self.highs = columns[1:5]
        if self.times:
            self.low, self.high, self.ends = min(self.lows), max(self.highs), self.times[-1] + self.reach
            self._make_room(self.times[-1])

    def clear(self) -> None:
        """All have left."""
        self._before += len(self.values)
        del self.times[:], self.values[:]
        self.totals = self.lows = self.highs = self.values
        self.numbers = None
        self.low, self.high, self.ends = _FOREVER, -_FOREVER, -_FOREVER
        self._limit = self._room = 0

    def correct(self, time: float, old: float, new: float) -> None:
        """A sample of that time and value gets another value; one of several has them reach to the old one still."""
        self.high, self.low = max(self.high, new), min(self.low, new)
        for place in range(bisect_left(self.times, time), bisect_right(self.times, time)):
            if self.values[place] == old and (self.numbers is None or self.numbers[place] == 1):
                for column in (self.totals, self.lows, self.highs, self.values):
                    column[place] = new
                self.behind = min(self.behind, self.times[place])
                return
        if (place := self._bundle_of(time)) >= 0:
            self.totals[place] += new - old
            self.lows[place], self.highs[place] = min(self.lows[place], new), max(self.highs[place], new)
            if self.values[place] == old:
                self.values[place] = new
            self.behind = min(self.behind, self.times[place])

    def _bundle_of(self, time: float) -> int:
        """Where a sample is that was joined with others, with those before or those after it; -1 if it is not here."""
        place, numbers = bisect_right(self.times, time), self.numbers or ()
        for one in (place - 1, place):
            if 0 <= one < len(numbers) and numbers[one] > 1 and abs(self.times[one] - time) < self._slot:
                return one
        return -1

    def rows(self, span: slice) -> list[Point]:
        """Those in a range of places."""
        numbers = self.numbers[span] if self.numbers is not None else [1.0] * len(self.times[span])
        columns = self.times[span], numbers, self.totals[span], self.lows[span], self.highs[span], self.values[span]
        return list(zip(*columns, strict=True))


class Trail:
    """Time and value of the latest samples, for a plot."""

    __slots__ = ("most", "times", "values")

    def __init__(self) -> None:
        self.most = 2 * PLOTTED
        """How many there are before the older half is forgotten."""
        self.times = array("d")
        self.values = array("d")

    @property
    def came(self) -> float:
        """When the last one was taken; 0 if there is none."""
        return self.times[-1] if self.times else 0.0

    def add(self, time: float, value: float) -> None:
        """One more."""
        self.times.append(time)
        self.values.append(value)
        if len(self.times) >= self.most:
            self.shorten()

    def insert(self, time: float, value: float) -> None:
        """One that comes late."""
        place = bisect_right(self.times, time)
        if 0 < place < len(self.times):
            self.times.insert(place, time)
            self.values.insert(place, value)

    def shorten(self) -> None:
        """Forget the older half."""
        del self.times[: self.most // 2], self.values[: self.most // 2]

    def plot(self) -> tuple[tuple[float, float], ...]:
        """Time and value, oldest first; at most 120."""
        return tuple(zip(self.times[-PLOTTED:], self.values[-PLOTTED:], strict=True))


def thinned(points: Iterable[tuple[float, float]], most: int = PLOTTED) -> tuple[tuple[float, float], ...]:
    """At most so many of the points: evenly chosen, the newest among them."""
    points = tuple(points)
    if len(points) <= most:
        return points
    step = len(points) / most
    return tuple(points[len(points) - 1 - int(step * place)] for place in range(most - 1, -1, -1))
