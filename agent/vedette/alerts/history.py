"""What was seen of a series: windows of samples whose sums are kept up as samples come and go, in bounded memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.points import MOST_POINTS, Extreme, joined, thinned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vedette.alerts.points import Point

_RECOUNT: Final = 4_096
"""Points that leave before the sums are made anew, so that rounding does not add up."""
_DWARFS: Final = 1e6
"""A sample that is so many times the sum of the others takes their digits along when it leaves."""
_GAP: Final = 60.0
_SHARE: Final = 0.1
_NEVER: Final = float("inf")
_NOTHING: Final[Callable[[float], bool]] = lambda _: False  # noqa: E731


class Window:
    """The samples of the last `over` seconds.

    Args:
        over: its length.
        ready: the time from which it has seen all of its length: before, it has no verdict.
    """

    __slots__ = (
        "_due", "_dwarf", "_extremes", "_left", "_slot", "count", "early", "high", "instance", "is_zero", "low", "over",
        "points", "reach", "ready", "seen", "total", "users",
    )  # fmt: skip

    def __init__(self, over: float, ready: float, ago: float = 0.0) -> None:
        self.over = over
        self.reach = over + ago
        """How far back it goes."""
        self.ready = ready
        self.early = ready
        """The time from which what was counted so far may say that it is too much already."""
        self.instance = ""
        self.points: deque[Point] = deque()
        self.count = 0
        self.total = 0.0
        self.seen = 0
        self.users: list[Any] = []
        self.is_zero: Callable[[float], bool] = _NOTHING
        """Whether nothing in it means 0: somebody looked, and there was nothing to count."""
        self.low: Extreme | None = None
        self.high: Extreme | None = None
        self._extremes: tuple[Extreme, ...] = ()
        self._due = _NEVER
        """When it changes by time alone: readers look at it themselves, for they are asked all the time."""
        self._left = _RECOUNT
        self._dwarf = 0.0
        self._slot = self.reach / MOST_POINTS

    def watch_low(self) -> None:
        """Keep the smallest at hand: `min` is asked for."""
        if self.low is None:
            self.low = self._watched(-1)

    def watch_high(self) -> None:
        """Keep the largest at hand: `max` is asked for."""
        if self.high is None:
            self.high = self._watched(1)

    def _watched(self, sign: int) -> Extreme:
        extreme = Extreme(sign, self._slot)
        extreme.recount(self.points)
        self._extremes = (*self._extremes, extreme)
        return extreme

    def put(self, point: Point, _until: float = 0.0) -> None:
        """A sample came."""
        self.seen += 1
        points = self.points
        if points and point[0] >= points[-1][0] and len(points) < MOST_POINTS:
            points.append(point)
            for extreme in self._extremes:
                extreme.add(point)
        else:
            self._put_among_many(point)
        self.count += point[1]
        self.total += point[2]

    def _put_among_many(self, point: Point) -> None:
        points = self.points
        if points and point[0] < points[-1][0]:
            place = bisect_right([one[0] for one in points], point[0])
            points.insert(place, point)
            for extreme in self._extremes:
                extreme.recount(points)
        else:
            self._join(points, point)
            for extreme in self._extremes:
                extreme.add(points[-1])  # which leaves when what it is of does
        self._due = min(self._due, points[0][0] + self.reach)

    def _join(self, points: deque[Point], point: Point) -> None:
        if len(points) >= MOST_POINTS and point[0] - points[-1][0] < self._slot:
            points.append(joined(points.pop(), point))
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
                for extreme in self._extremes:
                    extreme.recount(points)
                return True
        return False

    def trim(self, now: float) -> None:
        """Let go what is older than the window."""
        if now < self._due:
            return
        points, dwarf = self.points, self._dwarf
        edge = 0.0
        while now >= self._due:
            edge, number, leaves, _, _, _, _ = points.popleft()
            self.count -= number
            self.total -= leaves
            self._left -= 1
            if not -dwarf <= leaves <= dwarf:
                self._left = 0
            self._due = points[0][0] + self.reach if points else _NEVER
        for extreme in self._extremes:
            extreme.trim(edge)
        if self._left <= 0 or not points:
            self._recount()

    def is_empty(self, now: float) -> bool:
        """Whether nothing that was seen counts any more."""
        self.trim(now)
        return not self.points

    def _recount(self) -> None:
        self._left = _RECOUNT
        sums = [one[2] for one in self.points]
        self.total = sum(sums)
        self._dwarf = _DWARFS * abs(self.total - max(sums, key=abs, default=0.0))

    # What conditions ask; None where there is no answer

    def avg(self, now: float) -> float | None:
        """The mean of all samples."""
        if now >= self._due:
            self.trim(now)
        if now < self.ready:
            return None
        return self.total / self.count if self.count else self._empty(now)

    def sum(self, now: float) -> float | None:
        """The sum of all samples."""
        if now >= self._due:
            self.trim(now)
        if now < self.ready:
            return None
        return self.total if self.count else self._empty(now)

    def number(self, now: float) -> float | None:
        """How many samples there are."""
        if now >= self._due:
            self.trim(now)
        if now < self.ready:
            return None
        return float(self.count) if self.count else self._empty(now)

    def min(self, now: float) -> float | None:
        """The smallest sample; `watch_low` comes first."""
        return self._extreme(self.low, now)

    def max(self, now: float) -> float | None:
        """The largest sample; `watch_high` comes first."""
        return self._extreme(self.high, now)

    def _extreme(self, extreme: Extreme | None, now: float) -> float | None:
        if now >= self._due:
            self.trim(now)
        if now < self.ready:
            return None
        value = extreme.value if extreme is not None else None
        return value if value is not None else self._empty(now)

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
        return [list(one[:6]) for one in self.points]

    def restore(self, rows: Iterable[Iterable[float]]) -> None:
        """Put back what `kept` gave."""
        for row in rows:
            time, number, total, low, high, last = row
            self.put((time, int(number), total, low, high, last, 0))
        self.seen = 0


class Past(Window):
    """The samples of `over` seconds that ended `ago` seconds before now; those since then wait."""

    __slots__ = ("_ago", "_waiting")

    def __init__(self, over: float, ready: float, ago: float) -> None:
        super().__init__(over, ready, ago)
        self._ago = ago
        self._waiting: deque[Point] = deque()

    def put(self, point: Point, _until: float = 0.0) -> None:
        """A sample came."""
        self.seen += 1
        self._join(self._waiting, point)
        self._due = min(self._due, self._waiting[0][0] + self._ago)

    def trim(self, now: float) -> None:
        """Take what waited for so long, and let go what is older than the window."""
        if now < self._due:
            return
        points, waiting, ago = self.points, self._waiting, self._ago
        self._due = points[0][0] + self.reach if points else _NEVER
        while waiting and now >= waiting[0][0] + ago:
            super().put(waiting.popleft())
            self.seen -= 1  # it was counted when it came
        super().trim(now)
        if waiting:
            self._due = min(self._due, waiting[0][0] + ago)

    def is_empty(self, now: float) -> bool:
        """Whether nothing that was seen counts any more, or will."""
        return super().is_empty(now) and not self._waiting

    def kept(self) -> list[list[float]]:
        """What is in it or waits, as plain data."""
        return [*super().kept(), *(list(one[:6]) for one in self._waiting)]


def tolerated(over: float) -> float:
    """Seconds that may be missing in a window of this length."""
    return max(_GAP, _SHARE * over)
