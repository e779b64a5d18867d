"""What becomes of the samples of one series: points of windows, latest values, and what a total grew by."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window, tolerated
from vedette.alerts.latest import Each, Latest
from vedette.metrics import Kind, Sketch

if TYPE_CHECKING:
    from vedette.alerts.terms import Store
    from vedette.metrics import Sample

IDLE: Final = 3_600.0
"""Seconds, and more where the interval is longer, after which a series that does not come is forgotten."""
_CORRECTABLE: Final = 2_048
"""Samples of a series that came with their times and may be corrected, at the most: as long as a window has them."""
_NONE: Final[array[float]] = array("d")
_COUNTER: Final = Kind.COUNTER
_RATE: Final = Kind.RATE


class Brought:
    """The latest samples of a series that brought their times: those that may be reported again with another value."""

    __slots__ = ("_counted", "_times", "_values")

    def __init__(self) -> None:
        self._times = self._counted = self._values = _NONE

    def __contains__(self, time: float) -> bool:
        place = bisect_left(self._times, time)
        return place < len(self._times) and self._times[place] == time

    def note(self, time: float, counted: float, value: float, oldest: float) -> None:
        """One more.

        Args:
            time: that it brought.
            counted: the time as of which it counts.
            value: its value.
            oldest: what counted before that is forgotten.
        """
        if self._times is _NONE:
            self._times, self._counted, self._values = array("d"), array("d"), array("d")
        place = bisect_left(self._times, time)
        for column, one in ((self._times, time), (self._counted, counted), (self._values, value)):
            column.insert(place, one)
        gone = max(bisect_left(self._counted, oldest), len(self._times) - _CORRECTABLE)
        for column in (self._times, self._counted, self._values):
            del column[: max(gone, 0)]

    def replace(self, time: float, value: float) -> tuple[float, float] | None:
        """Another value; returns when the sample counts and its value before, None where it is not known any more."""
        if time not in self:
            return None
        place = bisect_left(self._times, time)
        old, self._values[place] = self._values[place], value
        return self._counted[place], old


@dataclass(slots=True, eq=False)
class Route:
    """Where the samples of one series go.

    Attributes:
        instance: who emits it.
        stores: the windows and latest values.
        members: those among them that are a series of their own, by where they are.
        until: when the next sample should have come.
        total: the last value and time of what is cumulative.
        newest: the newest time that a sample brought with it, and `counted` when that one counts.
        brought: such samples.
    """

    instance: str
    stores: tuple[Window | Latest, ...] = ()
    members: list[Each] = field(default_factory=list)
    until: float = 0.0
    total: tuple[float, float] | None = None
    newest: float = 0.0
    counted: float = 0.0
    brought: Brought = field(default_factory=Brought)

    def put_again(self, sample: Sample, now: float, hole: float, touched: list[Store]) -> None:
        """Take a sample that was reported before: where it has another value now as a correction.

        Args:
            sample: of this series, with its time.
            now: Unix seconds.
            hole: how long a sample is the latest.
            touched: the stores that it makes a difference to are added.
        """
        if isinstance(sample.value, str | Sketch):
            return
        time, new = sample.time or 0.0, _float(sample.value)
        if sample.kind in (_COUNTER, _RATE):
            if self.total is None or time > self.total[1]:
                self.total = (new, time)
            return
        old = self.brought.replace(time, new)
        for store in self.stores:
            if isinstance(store, Latest):
                if time == self.newest and now <= self.counted + hole:
                    store.recall(self.counted, new, self.counted + hole)
                    touched.append(store)
            elif old is not None and old[1] != new and old[0] > now - store.reach:
                store.correct(*old, new)
                touched.append(store)

    def put(self, sample: Sample, time: float, taken: float, until: float, touched: list[Store]) -> None:
        """Take a sample.

        Args:
            sample: of this series.
            time: when it counts.
            taken: when it was taken: of totals, what they grew by is per second between those.
            until: how long it is the latest.
            touched: the stores that got it are added.
        """
        value: Any = sample.value
        kind = sample.kind
        if kind is _COUNTER or kind is _RATE:
            number = _float(value)
            before, self.total = self.total, (number, taken)
            if before is None or number < before[0] or taken <= before[1]:
                return
            value = number - before[0]
            if kind is _RATE:
                value /= taken - before[1]
        if isinstance(value, Sketch):
            if not value.count:
                return
            bundle = (value.count, value.sum, value.min, value.max)
            for store in self.stores:
                store.put_bundle(time, bundle, value.sum / value.count, until)
        else:
            number = 1.0 if isinstance(value, str) else _float(value)
            for store in self.stores:
                store.put(time, number, until)
            if sample.time is not None:
                reach = max([store.reach for store in self.stores if isinstance(store, Window)], default=0.0)
                self.brought.note(sample.time, time, number, time - reach)
        touched += self.stores

    def resume(self, time: float) -> None:
        """A window in which nothing was seen for all of its length has no verdict until it is full again."""
        for store in self.stores:
            if isinstance(store, Window):
                full = time + store.reach
                if store.is_empty(time) and full - store.ready > tolerated(store.over) and not store.is_zero(time):
                    store.ready = full


def _float(value: Any) -> float:
    """The number, or as near as there is one."""
    try:
        return float(value)
    except OverflowError:
        return sys.float_info.max if value > 0 else -sys.float_info.max
