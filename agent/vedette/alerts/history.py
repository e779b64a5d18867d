"""What was seen of a series or of several: windows of samples, and what conditions ask of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.points import MOST_POINTS, Points, thinned
from vedette.rules.tree import FINEST

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Sequence

_EVER: Final = float("-inf")
_GAP: Final = 60.0
_SHARE: Final = 0.1
_NOTHING: Final[Callable[[float], bool]] = lambda _: False  # noqa: E731


class Window(Points):
    """The samples of the last `over` seconds.

    Args:
        over: its length.
        ready: the time from which it has seen all of its length: before, it has no verdict.
    """

    __slots__ = ("early", "instance", "is_zero", "name", "over", "ready", "users")

    def __init__(self, over: float, ready: float, ago: float = 0.0) -> None:
        reach = over + ago  # how far back it goes
        super().__init__(reach, min(FINEST, int(MOST_POINTS * reach / over)))
        self.over = over
        self.ready = ready
        self.early = ready
        """The time from which what was counted so far may say that it is too much already."""
        self.instance = self.name = ""
        self.users: list[Any] = []
        self.is_zero: Callable[[float], bool] = _NOTHING
        """Whether nothing in it means 0: somebody looked, and there was nothing to count."""

    def span(self, now: float) -> slice:
        """Where its points are."""
        return slice(bisect_right(self.times, now - self.reach), None)

    def is_empty(self, now: float) -> bool:
        """Whether nothing that was seen counts any more, or will."""
        if self.times and now >= self.ends:
            self.clear()
        return not self.times

    # What conditions ask; None where there is no answer

    def avg(self, now: float) -> float | None:
        """The mean of all samples."""
        if now < self.ready:
            return None
        span = self.span(now)
        totals = self.totals[span]
        number = len(totals) if self.numbers is None else sum(self.numbers[span])
        return sum(totals) / number if number else self._empty(now)

    def sum(self, now: float) -> float | None:
        """The sum of all samples."""
        if now < self.ready:
            return None
        totals = self.totals[self.span(now)]
        return sum(totals) if totals else self._empty(now)

    def number(self, now: float) -> float | None:
        """How many samples there are."""
        if now < self.ready:
            return None
        span = self.span(now)
        number = len(self.times[span]) if self.numbers is None else sum(self.numbers[span])
        return float(number) if number else self._empty(now)

    def min(self, now: float) -> float | None:
        """The smallest sample."""
        if now < self.ready:
            return None
        lows = self.lows[self.span(now)]
        return min(lows) if lows else self._empty(now)

    def max(self, now: float) -> float | None:
        """The largest sample."""
        if now < self.ready:
            return None
        highs = self.highs[self.span(now)]
        return max(highs) if highs else self._empty(now)

    def last(self, now: float) -> float | None:
        """The latest sample."""
        values = self.values[self.span(now)]
        return values[-1] if values else self._empty(now)

    def slope(self, now: float) -> float | None:
        """What it gains a second, from its first sample to its last."""
        span = self.span(now)
        times, values = self.times[span], self.values[span]
        if now < self.ready or len(times) < 2 or times[-1] <= times[0]:
            return None
        return (values[-1] - values[0]) / (times[-1] - times[0])

    def increase(self, now: float) -> float | None:
        """Of something that is counted: how many a second."""
        total = self.sum(now)
        return None if total is None else total / self.over

    def days_left(self, now: float) -> float | None:
        """Days until a line through all samples reaches 0: by least squares; infinite where it does not fall."""
        means = self.means(now)
        number = len(means)
        if now < self.ready or number < 2:
            return None
        xs, ys = [one[0] - now for one in means], [one[1] for one in means]
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

    def means(self, now: float) -> list[tuple[float, float]]:
        """Time and mean of each point."""
        return [(one[0], one[2] / one[1]) for one in self.rows(self.span(now))]

    def plot(self) -> tuple[tuple[float, float], ...]:
        """Time and mean of what is in it as of its last sample, at most 120 points."""
        return thinned(self.means(self.came))

    def kept(self, since: float = _EVER) -> tuple[array[float], ...]:
        """The columns of what is in it or waits, from that time on."""
        first = max(bisect_right(self.times, self.came - self.reach), bisect_left(self.times, since))
        return tuple(column[first:] for column in self.columns())

    def restore(self, columns: Sequence[array[float]], now: float) -> None:
        """Put back what `kept` gave, but for what is later than now.

        Raises:
            ValueError: they are no such columns.
        """
        if len(columns) not in (2, 6) or len({len(one) for one in columns}) > 1:
            raise ValueError("no columns of points")
        if not self.times:
            self.adopt([one[: bisect_right(columns[0], now)] for one in columns])
            return
        for time, *bundle, last in zip(*columns, strict=True):
            number, total, low, high = bundle or (1.0, last, last, last)
            if time <= now:
                self.put_bundle(time, (number, total, low, high), last)


class Past(Window):
    """The samples of `over` seconds that ended `ago` seconds before now; those since then wait."""

    __slots__ = ("_ago",)

    def __init__(self, over: float, ready: float, ago: float) -> None:
        super().__init__(over, ready, ago)
        self._ago = ago

    def span(self, now: float) -> slice:
        """Where its points are."""
        return slice(bisect_right(self.times, now - self.reach), bisect_right(self.times, now - self._ago))


def tolerated(over: float) -> float:
    """Seconds that may be missing in a window of this length."""
    return max(_GAP, _SHARE * over)
