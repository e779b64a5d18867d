"""Many observations in little memory: each value as it is while they are few, then a DDSketch.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
VLDB 2019; its mapping and stores are those of Datadog's own library.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from math import copysign, fsum, inf, isfinite
from typing import Any

from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import CollapsingLowestDenseStore

from vedette.kit import Sketch

ACCURACY = 0.01
"""How far a value may be off, relatively, once there are too many different ones to keep each."""

_GREATEST = sys.float_info.max
_MOST_EXACT = 128  # different values
_MOST_BINS = 2_048  # five decades take 576


class Observations:
    """What came of one histogram or distribution. Sum, least and greatest value are exact."""

    __slots__ = ("_bins", "_exact", "_max", "_min", "_sum")

    def __init__(self) -> None:
        self._exact: Counter[float] = Counter()
        self._bins: _Bins | None = None
        self._sum, self._min, self._max = 0.0, inf, -inf

    def add(self, values: Sequence[float], weight: int = 1) -> None:
        """Add values, each of which stands for `weight` observations."""
        self._sum = total((self._sum, bounded(total(values) * weight)))
        self._min, self._max = min(self._min, *values), max(self._max, *values)
        if self._bins is not None:
            self._bins.add(values, weight)
            return
        exact = self._exact
        if weight == 1:
            exact.update(values)
        else:
            for value in values:
                exact[value] += weight
        if len(exact) > _MOST_EXACT:
            self._bins = _Bins()
            for value, times in exact.items():
                self._bins.add((value,), times)
            exact.clear()

    def sketch(self) -> Sketch:
        """All of it as one value."""
        pairs: Iterable[tuple[float, int]] = self._exact.items()
        if self._bins is not None:
            pairs = self._bins.pairs(self._min, self._max).items()
        return Sketch(tuple(sorted(pairs)), self._sum, self._min, self._max)


class _Bins:
    """The bins of a sketch: one store for values above zero, one for those below, and how many are zero."""

    __slots__ = ("_above", "_below", "_mapping", "_zero")

    def __init__(self) -> None:
        self._mapping: Any = LogarithmicMapping(ACCURACY)
        self._above: Any = CollapsingLowestDenseStore(_MOST_BINS)
        self._below: Any = CollapsingLowestDenseStore(_MOST_BINS)
        self._zero = 0

    def add(self, values: Sequence[float], weight: int) -> None:
        mapping = self._mapping
        least, greatest = mapping.min_possible, mapping.max_possible
        if min(values) <= least or max(values) >= greatest:
            clipped = [max(-greatest, min(greatest, value)) for value in values]
            self._zero += weight * sum(-least <= value <= least for value in clipped)
            self._fill(self._below, [-value for value in clipped if value < -least], weight)
            values = [value for value in clipped if value > least]
        self._fill(self._above, values, weight)

    def _fill(self, store: Any, values: Sequence[float], weight: int) -> None:
        for key, times in Counter(map(self._mapping.key, values)).items():
            store.add(key, times * weight)

    def pairs(self, least: float, greatest: float) -> Counter[float]:
        """How many observations each bin's value stands for; no value is beyond those that came."""
        found: Counter[float] = Counter()
        for store, sign in ((self._above, 1), (self._below, -1)):
            for place, times in enumerate(store.bins):
                if times:
                    value = sign * self._mapping.value(place + store.offset)
                    found[max(least, min(greatest, value))] += int(times)
        if self._zero:
            found[0.0] += self._zero
        return found


def total(values: Iterable[float]) -> float:
    """The sum of finite numbers without rounding in between; the greatest number there is where it goes beyond."""
    values = tuple(values)
    try:
        return fsum(values)
    except OverflowError:
        return bounded(sum(values))


def bounded(number: float) -> float:
    """The number, or the greatest one there is if it is infinite."""
    return number if isfinite(number) else copysign(_GREATEST, number)
