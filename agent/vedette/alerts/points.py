"""The points of windows: two that become one, the smallest and the largest kept at hand, a few of them for a plot.

A point is (time, number of samples, sum, smallest, largest, last, series): one sample, or in a window with many of
them those of a slot of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Point = tuple[float, int, float, float, float, float, int]

MOST_POINTS: Final = 512
"""Points of a window that are single samples; beyond them those of one slot become one."""
PLOTTED: Final = 120


def joined(one: Point, other: Point) -> Point:
    """Two that follow each other as one."""
    return (
        one[0],
        one[1] + other[1],
        one[2] + other[2],
        min(one[3], other[3]),
        max(one[4], other[4]),
        other[5],
        other[6],
    )


def thinned(points: list[tuple[float, float]], most: int = PLOTTED) -> tuple[tuple[float, float], ...]:
    """At most so many of the points: evenly chosen, the newest among them."""
    if len(points) <= most:
        return tuple(points)
    step = len(points) / most
    return tuple(points[len(points) - 1 - int(step * place)] for place in range(most - 1, -1, -1))


class Extreme:
    """The smallest or the largest sample of a window, kept at hand.

    Only what nothing later exceeds can become the largest: a monotonic queue, likewise for the smallest.

    Args:
        sign: 1 for the largest, -1 for the smallest.
        slot: seconds of which one sample is enough where there are many.
    """

    __slots__ = ("_bounds", "_place", "_sign", "_slot")

    def __init__(self, sign: int, slot: float) -> None:
        self._sign = sign
        self._slot = slot
        self._place = 4 if sign > 0 else 3
        self._bounds: deque[tuple[float, float]] = deque()

    def __len__(self) -> int:
        return len(self._bounds)

    @property
    def value(self) -> float | None:
        """It; None where there is no sample."""
        return self._sign * self._bounds[0][1] if self._bounds else None

    def add(self, point: Point) -> None:
        """A sample came."""
        bounds, value = self._bounds, self._sign * point[self._place]
        while bounds and bounds[-1][1] <= value:
            bounds.pop()
        bounds.append((point[0], value))
        if len(bounds) > MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        """Of two in one slot of time the one that bounds both is enough."""
        bounds = self._bounds
        last, before = bounds.pop(), bounds.pop()
        if last[0] // self._slot == before[0] // self._slot:
            bounds.append((last[0], before[1]))
        else:
            bounds.extend((before, last))

    def trim(self, edge: float) -> None:
        """Let go what is not younger than that."""
        bounds = self._bounds
        while bounds and bounds[0][0] <= edge:
            bounds.popleft()

    def recount(self, points: Iterable[Point]) -> None:
        """See these samples and no others."""
        self._bounds.clear()
        for point in points:
            self.add(point)
