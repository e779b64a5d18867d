"""What becomes of the samples of one series: points of windows, latest values, and what a total grew by."""

from __future__ import annotations

import sys
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
_COUNTER: Final = Kind.COUNTER
_RATE: Final = Kind.RATE


@dataclass(slots=True, eq=False)
class Route:
    """Where the samples of one series go.

    Attributes:
        number: its own, which tells its points from others'.
        instance: who emits it.
        stores: the windows and latest values.
        members: those among them that are a series of their own, by where they are.
        until: when the next sample should have come.
        total: the last value and time of what is cumulative.
        newest: the newest time that a sample brought with it.
    """

    number: int
    instance: str
    stores: list[Window | Latest] = field(default_factory=list)
    members: list[Each] = field(default_factory=list)
    until: float = 0.0
    total: tuple[float, float] | None = None
    newest: float = 0.0

    def correct(self, sample: Sample, time: float) -> None:
        """What was reported again replaces what was reported before, if that is still here."""
        if isinstance(sample.value, str | Sketch):
            return
        for store in self.stores:
            if isinstance(store, Window):
                store.replace(time, self.number, _float(sample.value))

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
        shape = value.__class__
        if shape is float:
            point = (time, 1, value, value, value, value, self.number)
        elif shape is Sketch:
            if not value.count:
                return
            point = (time, value.count, value.sum, value.min, value.max, value.sum / value.count, self.number)
        else:
            number = 1.0 if shape is str else _float(value)
            point = (time, 1, number, number, number, number, self.number)
        for store in self.stores:
            store.put(point, until)
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
