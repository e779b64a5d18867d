"""What was seen of a series: windows of samples whose sums are kept up as samples come and go, within bounded memory.

A point is (time, number of samples, sum, smallest, largest, last, series): one sample, or in a window with many of
them those of a slot of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Point = tuple[float, int, float, float, float, float, int]

MOST_POINTS: Final = 512
"""Points of a window that are single samples; beyond them those of one slot become one."""
PLOTTED: Final = 120
_RECOUNT: Final = 4_096
"""Points that leave before the sums are made anew, so that rounding does not add up."""
_DWARFS: Final = 1e6
"""A sample that is so many times the sum of the others takes their digits along when it leaves."""
_GAP: Final = 60.0
_SHARE: Final = 0.1
_NOTHING: Final[Callable[[float], bool]] = lambda _: False  # noqa: E731


class Window:
    """The samples of the last `over` seconds.

    Args:
        over: its length.
        ready: the time from which it has seen all of its length: before, it has no verdict.
        ago: how far in the past it ends.
    """

    __slots__ = (
        "_dwarf", "_highs", "_left", "_lows", "_slot", "ago", "count", "early", "instance", "is_zero", "over", "points",
        "ready", "seen", "total", "users", "waiting",
    )  # fmt: skip

    def __init__(self, over: float, ready: float, ago: float = 0.0) -> None:
        self.over = over
        self.ready = ready
        self.early = ready
        """The time from which what was counted so far may say that it is too much already."""
        self.ago = ago
        self.instance = ""
        self.points: deque[Point] = deque()
        self.waiting: deque[Point] = deque()
        self.count = 0
        self.total = 0.0
        self.seen = 0
        self.users: list[Any] = []
        self.is_zero: Callable[[float], bool] = _NOTHING
        """Whether nothing in it means 0: somebody looked, and there was nothing to count."""
        self._left = _RECOUNT
        self._dwarf = 0.0
        self._slot = (over + ago) / MOST_POINTS
        self._lows: deque[tuple[float, float]] | None = None
        self._highs: deque[tuple[float, float]] | None = None

    def watch_extremes(self) -> None:
        """Keep the smallest and the largest at hand: `min` and `max` are asked for."""
        self._lows, self._highs = deque(), deque()
        for point in self.points:
            self._bound(point)

    def _bound(self, point: Point) -> None:
        """Only what nothing later exceeds can become the largest; likewise the smallest."""
        lows, highs = self._lows, self._highs
        if lows is None or highs is None:
            return
        while lows and lows[-1][1] >= point[3]:
            lows.pop()
        lows.append((point[0], point[3]))
        while highs and highs[-1][1] <= point[4]:
            highs.pop()
        highs.append((point[0], point[4]))
        if len(lows) > MOST_POINTS:
            self._thin(lows)
        if len(highs) > MOST_POINTS:
            self._thin(highs)

    def _thin(self, bounds: deque[tuple[float, float]]) -> None:
        """Of two in one slot of time the one that bounds both is enough."""
        last, before = bounds.pop(), bounds.pop()
        if last[0] // self._slot == before[0] // self._slot:
            bounds.append((last[0], before[1]))
        else:
            bounds.extend((before, last))

    def add(self, point: Point) -> None:
        """A sample came."""
        self.seen += 1
        if self.ago:
            self._join(self.waiting, point)
            return
        points = self.points
        if not points or (point[0] >= points[-1][0] and len(points) < MOST_POINTS):
            points.append(point)
        else:
            self._add_to_many(point)
        self.count += point[1]
        self.total += point[2]
        if self._lows is not None:
            self._bound(point)

    def _add_to_many(self, point: Point) -> None:
        points = self.points
        if point[0] < points[-1][0]:
            place = bisect_right([one[0] for one in points], point[0])
            points.insert(place, point)
            if self._lows is not None:
                self.watch_extremes()  # and the point itself once more, which changes nothing
        else:
            self._join(points, point)

    def _join(self, points: deque[Point], point: Point) -> None:
        if len(points) >= MOST_POINTS and point[0] - points[-1][0] < self._slot:
            points.append(_joined(points.pop(), point))
        else:
            points.append(point)

    def replace(self, time: float, series: int, value: float) -> bool:
        """A sample was corrected; returns whether it is here."""
        points = self.points
        for place in range(len(points) - 1, -1, -1):
            one = points[place]
            if one[0] < time:
                break
            if one[0] == time and one[6] == series and one[1] == 1:
                points[place] = (time, 1, value, value, value, value, series)
                self._recount()
                if self._lows is not None:
                    self.watch_extremes()
                return True
        return False

    def trim(self, now: float) -> None:
        """Let go what is older than the window."""
        if self.waiting:
            self._arrive(now - self.ago)
        points, edge = self.points, now - self.ago - self.over
        while points and points[0][0] <= edge:
            point = points.popleft()
            leaves = point[2]
            self.count -= point[1]
            self.total -= leaves
            self._left -= 1
            if not -self._dwarf <= leaves <= self._dwarf:
                self._left = 0
        if self._lows is not None and self._highs is not None:
            _drop(self._lows, edge)
            _drop(self._highs, edge)
        if self._left <= 0 or not points:
            self._recount()

    def _arrive(self, edge: float) -> None:
        """What waited for so long is of the past that is looked at."""
        points, waiting = self.points, self.waiting
        while waiting and waiting[0][0] <= edge:
            point = waiting.popleft()
            points.append(point)
            self.count += point[1]
            self.total += point[2]
            self._bound(point)

    def _recount(self) -> None:
        self._left = _RECOUNT
        self.total = sum(one[2] for one in self.points)
        self._dwarf = _DWARFS * abs(self.total)

    # What conditions ask; None where there is no answer

    def avg(self, now: float) -> float | None:
        """The mean of all samples."""
        points = self.points
        if self.ago or (points and points[0][0] <= now - self.over):
            self.trim(now)
        if now < self.ready:
            return None
        return self.total / self.count if self.count else self._empty(now)

    def sum(self, now: float) -> float | None:
        """The sum of all samples."""
        points = self.points
        if self.ago or (points and points[0][0] <= now - self.over):
            self.trim(now)
        if now < self.ready:
            return None
        return self.total if self.count else self._empty(now)

    def number(self, now: float) -> float | None:
        """How many samples there are."""
        self.trim(now)
        if now < self.ready:
            return None
        return float(self.count) if self.count else self._empty(now)

    def min(self, now: float) -> float | None:
        """The smallest sample; `watch_extremes` comes first."""
        self.trim(now)
        if now < self.ready:
            return None
        return self._lows[0][1] if self._lows else self._empty(now)

    def max(self, now: float) -> float | None:
        """The largest sample; `watch_extremes` comes first."""
        self.trim(now)
        if now < self.ready:
            return None
        return self._highs[0][1] if self._highs else self._empty(now)

    def last(self, now: float) -> float | None:
        """The latest sample."""
        self.trim(now)
        return self.points[-1][5] if self.points else self._empty(now)

    def slope(self, now: float) -> float | None:
        """What it gains a second, from its first sample to its last."""
        self.trim(now)
        if now < self.ready or len(self.points) < 2:
            return None
        first, last = self.points[0], self.points[-1]
        return (last[5] - first[5]) / (last[0] - first[0]) if last[0] > first[0] else None

    def increase(self, now: float) -> float | None:
        """Of something that is counted: how many a second."""
        total = self.sum(now)
        return None if total is None else total / self.over

    def days_left(self, now: float) -> float | None:
        """Days until a line through all samples reaches 0: by least squares; infinite where it does not fall."""
        self.trim(now)
        number = len(self.points)
        if now < self.ready or number < 2:
            return None
        xs = [one[0] - now for one in self.points]
        ys = [one[2] / one[1] for one in self.points]
        middle, mean = sum(xs) / number, sum(ys) / number
        spread = sum((x - middle) ** 2 for x in xs)
        slope = sum((x - middle) * (y - mean) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0
        level = mean - slope * middle
        if level <= 0:
            return 0.0
        return level / -slope / 86_400.0 if slope < 0 else float("inf")

    def so_far(self, read: Callable[[float], float | None], now: float) -> float | None:
        """What is counted also while the window is not full yet: at least so much it will be."""
        if not self.early <= now < self.ready:
            return read(now)
        ready, self.ready = self.ready, self.early
        value = read(now)
        self.ready = ready
        return value

    def _empty(self, now: float) -> float | None:
        return 0.0 if self.is_zero(now) else None

    # What outlasts a restart, and plots

    def plot(self) -> tuple[tuple[float, float], ...]:
        """Time and mean of what is in it, at most 120 points."""
        return thinned([(one[0], one[2] / one[1]) for one in self.points])

    def kept(self) -> list[list[float]]:
        """What is in it, as plain data."""
        return [list(one[:6]) for one in (*self.points, *self.waiting)]

    def restore(self, rows: Iterable[Iterable[float]]) -> None:
        """Put back what `kept` gave."""
        for row in rows:
            time, number, total, low, high, last = row
            self.add((time, int(number), total, low, high, last, 0))
        self.seen = 0


def _drop(bounds: deque[tuple[float, float]], edge: float) -> None:
    while bounds and bounds[0][0] <= edge:
        bounds.popleft()


def _joined(one: Point, other: Point) -> Point:
    return (
        one[0],
        one[1] + other[1],
        one[2] + other[2],
        min(one[3], other[3]),
        max(one[4], other[4]),
        other[5],
        other[6],
    )


def tolerated(over: float) -> float:
    """Seconds that may be missing in a window of this length."""
    return max(_GAP, _SHARE * over)


def thinned(points: list[tuple[float, float]], most: int = PLOTTED) -> tuple[tuple[float, float], ...]:
    """At most so many of the points: evenly chosen, the newest among them."""
    if len(points) <= most:
        return tuple(points)
    step = len(points) / most
    return tuple(points[len(points) - 1 - int(step * place)] for place in range(most - 1, -1, -1))
