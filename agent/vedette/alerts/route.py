"""What becomes of the samples of one series: points of windows, latest values, and what a total grew by."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from math import inf, isnan, nan
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window, tolerated
from vedette.alerts.latest import Each, Latest
from vedette.metrics import Kind, Sketch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette.alerts.points import Bundle
    from vedette.alerts.terms import Store
    from vedette.metrics import Sample

IDLE: Final = 3_600.0
"""Seconds, and more where the interval is longer, after which a series that does not come is forgotten."""
_CORRECTABLE: Final = 2_048
"""Samples of a series that came with their times and may be corrected, at the most: as long as a window has them."""
_KEPT: Final = 32
"""Times of them that are known over a restart, of a series of which something came late or again."""
_NONE: Final[array[float]] = array("d")
_COUNTER: Final = Kind.COUNTER
_RATE: Final = Kind.RATE


class Brought:
    """The latest samples of a series that brought their times: those that may be reported again with another value.

    Args:
        floor: up to which time nobody knows any more what came.
        times: later ones that came, in order; what values they had is not known.
        delay: seconds after which those counted.

    Attributes:
        again: whether something came late, again, or of the future: if not, the newest one tells what is new.
    """

    __slots__ = ("_counted", "_times", "_values", "again", "floor")

    def __init__(self, floor: float = 0.0, times: Sequence[float] = (), delay: float = 0.0) -> None:
        self.floor = floor
        self.again = len(times) > 1
        self._times = self._counted = self._values = _NONE
        if times:
            self._times, self._values = array("d", times), array("d", [nan]) * len(times)
            self._counted = array("d", [one + delay for one in times])

    def __contains__(self, time: float) -> bool:
        """Whether it came before, as far as anybody knows."""
        if time <= self.floor:
            return True
        place = bisect_left(self._times, time)
        return place < len(self._times) and self._times[place] == time

    @property
    def kept(self) -> tuple[float, ...]:
        """What outlasts a restart: from when on all are known, and when those were."""
        first = max(0, len(self._times) - _KEPT)
        return (self._times[first - 1] if first else self.floor, *self._times[first:])

    def pace(self, time: float) -> float:
        """Seconds from the sample before to that of this time; 0 if nobody knows of one."""
        place = bisect_left(self._times, time)
        before = self._times[place - 1] if place else self.floor
        return time - before if before else 0.0

    def note(self, time: float, counted: float, value: float, oldest: float, newest: float) -> None:
        """One more.

        Args:
            time: that it brought.
            counted: the time as of which it counts.
            value: its value; NaN is never corrected.
            oldest: what counted before that is forgotten, but for
            newest: what has a later time than that: it will not be known to be old.
        """
        if self._times is _NONE:
            self._times, self._counted, self._values = array("d"), array("d"), array("d")
        place = bisect_left(self._times, time)
        for column, one in ((self._times, time), (self._counted, counted), (self._values, value)):
            column.insert(place, one)
        gone = max(0, len(self._times) - _CORRECTABLE)
        while gone < len(self._times) - 1 and self._counted[gone] < oldest and self._times[gone] <= newest:
            gone += 1
        if gone:
            self.floor = self._times[gone - 1]
            for column in (self._times, self._counted, self._values):
                del column[:gone]

    def shift(self, by: float, newest: float) -> None:
        """All have times from now on that are later by so many seconds; none up to `newest` is hidden by others."""
        self.floor = min(self.floor + by, newest)
        if self._times is not _NONE:
            self._times = array("d", [one + by for one in self._times])

    def replace(self, time: float, value: float) -> tuple[float, float] | None:
        """Another value; returns when the sample counts and its value before, None where it is not known any more."""
        place = bisect_left(self._times, time)
        if place == len(self._times) or self._times[place] != time or isnan(self._values[place]):
            return None
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
        total: the last value of what is cumulative, when it was taken (NaN once the clock was set) and when it counts.
        newest: the newest time that a sample brought with it, and `counted` when that one counts.
        brought: such samples, also those of the future.
    """

    instance: str
    stores: tuple[Window | Latest, ...] = ()
    members: list[Each] = field(default_factory=list)
    until: float = 0.0
    total: tuple[float, float, float] | None = None
    newest: float = 0.0
    counted: float = 0.0
    brought: Brought = field(default_factory=Brought)

    @property
    def kept(self) -> tuple[float, ...]:
        """What outlasts a restart: `newest`, `counted`, how long before `newest` all are known, and those came.

        Where all came once and in order the newest tells what is new: those are left out.
        """
        newest, brought = self.newest, self.brought
        if not brought.again:
            return newest, self.counted, brought.pace(newest)
        floor, *times = brought.kept
        return newest, self.counted, newest - min(floor, newest), *(newest - one for one in times)

    def restore(self, row: Sequence[float]) -> None:
        """Know what `kept` gave."""
        self.newest, self.counted, age, *ages = row
        times = [self.newest - one for one in ages or (0.0,)]
        self.brought = Brought(self.newest - age, times, self.counted - self.newest)

    def clock_was_set(self, now: float, back: float) -> None:
        """See `Router.clock_was_set`."""
        if self.newest:
            self.newest = min(now, self.newest + back)
            self.brought.shift(back, self.newest)
            if self.total is not None:  # whoever dates them may have the clock that was set, or another
                self.total = (self.total[0], nan, self.counted)

    def put_again(self, sample: Sample, now: float, hole: float, touched: list[Store]) -> None:
        """Take a sample that was reported before: where it has another value now as a correction.

        Args:
            sample: of this series, with its time.
            now: Unix seconds.
            hole: how long a sample is the latest.
            touched: the stores that it makes a difference to are added.
        """
        self.brought.again = True
        if isinstance(sample.value, str | Sketch):
            return
        time, new = sample.time or 0.0, _float(sample.value)
        if sample.kind in (_COUNTER, _RATE):
            if self.total is None or time > self.total[1]:
                self.total = (new, time, self.counted)
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
            before, self.total = self.total, (number, taken, time)
            passed = 0.0 if before is None else time - before[2] if isnan(before[1]) else taken - before[1]
            if before is None or number < before[0] or passed <= 0:
                return
            value = number - before[0]
            if kind is _RATE:
                value /= passed
        if isinstance(value, Sketch):
            if not value.count:
                return
            number, bundle = nan, _bundle(value)
            for store in self.stores:
                store.put_bundle(time, bundle, bundle[1] / bundle[0], until)
        else:
            number = 1.0 if isinstance(value, str) else _float(value)
            for store in self.stores:
                store.put(time, number, until)
        if sample.time is not None:
            self._note(sample.time, time, number)
        touched += self.stores

    def put_late(self, sample: Sample, now: float, touched: list[Store]) -> None:
        """Take a sample after later ones: it counts as long before the newest one as it was taken before that.

        Args:
            sample: of this series, with its time; no total, for what that grew by is in the next one.
            now: Unix seconds.
            touched: the windows that got it are added.
        """
        self.brought.again = True
        taken, value = sample.time or 0.0, sample.value
        time = taken + self.counted - self.newest
        if isinstance(value, Sketch):
            if not value.count:
                return
            number, bundle = nan, _bundle(value)
        else:
            number = 1.0 if isinstance(value, str) else _float(value)
            bundle = (1.0, number, number, number)
        for store in self.stores:
            if isinstance(store, Latest):
                store.insert(time, bundle[1] / bundle[0])
            elif time > now - store.reach:
                store.put_bundle(time, bundle, bundle[1] / bundle[0], late=True)
                touched.append(store)
        self._note(taken, time, number)

    def _note(self, taken: float, time: float, number: float) -> None:
        reach = max([store.reach for store in self.stores if isinstance(store, Window)], default=0.0)
        self.brought.note(taken, time, number, time - reach, self.newest)
        if taken > time:
            self.brought.again = True
        if self.brought.floor > self.newest:  # those of the future hide none of now
            self.brought.floor = self.newest

    def resume(self, time: float, pace: float = inf) -> None:
        """A window in which nothing was seen for all of its length has no verdict until it is full again.

        Args:
            time: Unix seconds.
            pace: seconds between two samples, lately; no hole says anything to windows that are as long.
        """
        for store in self.stores:
            if isinstance(store, Window) and store.over < pace:
                full = time + store.reach
                if store.is_empty(time) and full - store.ready > tolerated(store.over) and not store.is_zero(time):
                    store.ready = full


def _bundle(sketch: Sketch) -> Bundle:
    return sketch.count, sketch.sum, sketch.min, sketch.max


def _float(value: Any) -> float:
    """The number, or as near as there is one."""
    try:
        return float(value)
    except OverflowError:
        return sys.float_info.max if value > 0 else -sys.float_info.max
