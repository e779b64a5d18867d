"""Many observations in little memory: each value as it is while they are few, then a DDSketch.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
VLDB 2019, section 2, with the logarithmic mapping. Datadog's own library takes some 1.5 us for each value; here most of
the work is done in C for many values at once, at a fifth of that. The tests compare the two bin by bin.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from math import ceil, copysign, fsum, inf, isfinite, log, log1p
from typing import Any

from vedette.kit import Sketch

ACCURACY = 0.01
"""How far a value may be off, relatively, once there are too many different ones to keep each."""

_MOST_EXACT = 128  # different values
_MOST_BINS = 2_048  # five decades take 576
_GREATEST, _LEAST = sys.float_info.max, sys.float_info.min
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_PER_LOG = 1 / log1p(2 * ACCURACY / (1 - ACCURACY))  # 1 / log(gamma)


class Observations:
    """What came of one histogram or distribution. Sum, least and greatest value are exact."""

    __slots__ = ("_above", "_below", "_exact", "_max", "_min", "_sum", "_zero")

    def __init__(self) -> None:
        self._exact: Counter[float] | None = Counter()
        self._above: Counter[int] = Counter()
        self._below: Counter[int] = Counter()
        self._zero = 0
        self._sum, self._min, self._max = 0.0, inf, -inf

    def add(self, values: Sequence[float], weight: int = 1) -> None:
        """Add values, at least one, each of which stands for `weight` observations."""
        least, greatest = min(values), max(values)
        self._min, self._max = min(self._min, least), max(self._max, greatest)
        self._sum = bounded(self._sum + bounded(total(values) * weight))
        if self._exact is None:
            self._fill(values, weight)
            return
        _count(self._exact, values, weight)
        if len(self._exact) > _MOST_EXACT:
            exact, self._exact = self._exact, None
            for value, times in exact.items():
                self._fill((value,), times)

    def sketch(self) -> Sketch:
        """All of it as one value."""
        return Sketch(tuple(sorted(self._pairs().items())), self._sum, self._min, self._max)

    def _fill(self, values: Sequence[float], weight: int) -> None:
        if min(values) < _LEAST:
            below = [-value for value in values if value <= -_LEAST]
            self._zero += weight * sum(-_LEAST < value < _LEAST for value in values)
            _count(self._below, [ceil(log(value) * _PER_LOG) for value in below], weight)
            _shrink(self._below)
            values = [value for value in values if value >= _LEAST]
        _count(self._above, [ceil(log(value) * _PER_LOG) for value in values], weight)
        _shrink(self._above)

    def _pairs(self) -> Counter[float]:
        """How many observations each bin's value stands for; no value is beyond those that came."""
        if self._exact is not None:
            return self._exact
        found: Counter[float] = Counter()
        for bins, sign in ((self._above, 1), (self._below, -1)):
            for key, times in bins.items():
                found[max(self._min, min(self._max, sign * _value(key)))] += times
        if self._zero:
            found[0.0] += self._zero
        return found


def _count(into: Counter[Any], values: Sequence[float], weight: int) -> None:
    if weight == 1:
        into.update(values)
    else:
        for value in values:
            into[value] += weight


def _shrink(bins: Counter[int]) -> None:
    """Put the lowest bins together where there are too many: the high quantiles are those that matter."""
    if len(bins) > _MOST_BINS:
        keys = sorted(bins)
        lowest = keys[-_MOST_BINS]
        for key in keys[:-_MOST_BINS]:
            bins[lowest] += bins.pop(key)


def _value(key: int) -> float:
    """The value whose relative distance to both ends of its bin is the same."""
    try:
        return 2 * _GAMMA**key / (1 + _GAMMA)
    except OverflowError:
        return _GREATEST


def total(values: Sequence[float]) -> float:
    """The sum of finite numbers without rounding in between; the greatest number there is where it goes beyond."""
    try:
        return fsum(values)
    except OverflowError:
        return bounded(sum(values))


def bounded(number: float) -> float:
    """The number, or the greatest one there is if it is infinite."""
    return number if isfinite(number) else copysign(_GREATEST, number)
