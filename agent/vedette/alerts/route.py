"""What becomes of the samples of one series: points of windows, latest values, and what a total grew by."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import islice
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
_COUNTER: Final = Kind.COUNTER
_RATE: Final = Kind.RATE


@dataclass(slots=True, eq=False)
class Route:
    """Where the samples of one series go.

    Attributes:
        instance: who emits it.
        stores: the windows and latest values.
        members: those among them that are a series of their own, by where they are.
        until: when the next sample should have come.
        total: the last value and time of what is cumulative.
        newest: the newest time that a sample brought with it.
        brought: when the latest of such samples counted, and their values, by that time.
    """

    instance: str
    stores: tuple[Window | Latest, ...] = ()
    members: list[Each] = field(default_factory=list)
    until: float = 0.0
    total: tuple[float, float] | None = None
    newest: float = 0.0
    brought: dict[float, tuple[float, float]] = field(default_factory=dict)

    def correct(self, sample: Sample) -> None:
        """What was reported again replaces what was reported before, if that is still here."""
        time = sample.time or 0.0
        if isinstance(sample.value, str | Sketch) or sample.kind in (_COUNTER, _RATE) or time not in self.brought:
            return
        counted, old = self.brought[time]
        new = _float(sample.value)
        self.brought[time] = counted, new
        for store in self.stores if new != old else ():
            if isinstance(store, Window):
                store.correct(counted, old, new)

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
                self._note(sample.time, time, number)
        touched += self.stores

    def _note(self, brought: float, counted: float, value: float) -> None:
        known = self.brought
        known[brought] = counted, value
        reach = max([store.reach for store in self.stores if isinstance(store, Window)], default=0.0)
        for first in [one for one, (at, _) in islice(known.items(), 2) if at < counted - reach]:
            del known[first]
        if len(known) > _CORRECTABLE:
            del known[next(iter(known))]

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
