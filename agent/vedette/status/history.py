"""The last runs of every instance, for sparklines: single-precision numbers in one array per instance."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from vedette.metrics import Kind

if TYPE_CHECKING:
    from vedette.metrics import Batch, Sample, Tags

POINTS: Final = 60
MOST_VALUES: Final = 8
BUDGET: Final = 4_000_000
"""Bytes for all instances together."""

_DURATION = "health_check.response_time"
_CORE = "health_check."
_ROW = POINTS * 4  # bytes
_SERIES = 180  # bytes that a series takes beside its points
_TRACK = 600  # bytes that an instance takes beside its series
_TOTALS = (Kind.COUNTER, Kind.RATE)
_NUMBERS = (int, float, Decimal)
_NOTHING = math.nan


@dataclass(frozen=True, slots=True)
class Line:
    """One series to draw.

    Attributes:
        name: the metric's name.
        tags: its tags.
        values: oldest first, not a number where a run did not measure it; growth per second where it is a total.
        per_second: whether it is a total.
    """

    name: str
    tags: Tags
    values: tuple[float, ...]
    per_second: bool = False


class _Series:
    """A series that is kept: where it stood in the last batch, and for a total what it was."""

    __slots__ = ("at", "name", "place", "tags", "total", "when")

    def __init__(self, sample: Sample, place: int) -> None:
        self.name, self.tags, self.place = sample.name, sample.tags, place
        self.total = sample.kind in _TOTALS
        self.at, self.when = _NOTHING, 0.0

    def take(self, samples: tuple[Sample, ...], time: float) -> float:
        """Its value in a batch. Batches of a check mostly have the same order, so it is where it was."""
        if not (self.place < len(samples) and self._is(samples[self.place])):
            place = next((place for place, sample in enumerate(samples) if self._is(sample)), None)
            if place is None:
                return _NOTHING
            self.place = place
        sample = samples[self.place]
        try:
            value = float(sample.value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return _NOTHING
        return self._growth(value, sample.time or time) if self.total else value

    def _is(self, sample: Sample) -> bool:
        return sample.name == self.name and sample.tags == self.tags

    def _growth(self, value: float, time: float) -> float:
        grown, passed = value - self.at, time - self.when
        self.at, self.when = value, time
        return grown / passed if grown >= 0 and passed > 0 else _NOTHING


class _Track:
    """The last runs of one instance: a row of points for the duration, then one for each series."""

    __slots__ = ("cursor", "points", "runs", "series", "size", "values")

    def __init__(self, values: int) -> None:
        self.values = values
        self.points = array("f", [_NOTHING]) * (POINTS * (values + 1))
        self.series: list[_Series | None] = [None]
        self.cursor = self.runs = self.size = 0

    def add(self, batch: Batch) -> None:
        samples = batch.samples
        if len(samples) != self.size and len(self.series) <= self.values:
            self._choose(samples)
        self.size = len(samples)
        at = self.cursor
        for series in self.series:
            self.points[at] = _NOTHING if series is None else _single(series.take(samples, batch.time))
            at += POINTS
        self.cursor = (self.cursor + 1) % POINTS
        self.runs += 1

    def _choose(self, samples: tuple[Sample, ...]) -> None:
        """Begin series: the first of each metric in the batch's order, as many as there is room for."""
        known = {series.name for series in self.series if series is not None}
        for place, sample in enumerate(samples):
            if sample.name == _DURATION:
                self.series[0] = self.series[0] or _Series(sample, place)
            elif sample.name not in known and isinstance(sample.value, _NUMBERS) and self._has_room(sample.name):
                known.add(sample.name)
                self.series.append(_Series(sample, place))

    def _has_room(self, name: str) -> bool:
        return len(self.series) <= self.values and not name.startswith(_CORE)

    def row(self, number: int) -> tuple[float, ...]:
        row = self.points[number * POINTS : (number + 1) * POINTS]
        ordered = row[self.cursor :] + row[: self.cursor]
        return tuple(ordered[POINTS - min(self.runs, POINTS) :])


def _single(value: float) -> float:
    """The value, or nothing where single precision cannot hold it."""
    return value if abs(value) < 3e38 else _NOTHING


class History:
    """Remembers `POINTS` runs of each instance within a fixed budget; a consumer of batches.

    Args:
        instances: how many there are; the more, the fewer series of each are kept.
    """

    def __init__(self, instances: int) -> None:
        share = BUDGET // max(1, instances)
        fit = (share - _TRACK) // (_ROW + _SERIES) - 1
        self.values = max(0, min(MOST_VALUES, fit))
        """Series kept of each instance, its duration aside."""
        self._most = BUDGET // (_TRACK + (self.values + 1) * (_ROW + _SERIES))
        self._tracks: dict[str, _Track] = {}

    def add(self, batch: Batch) -> None:
        """Remember a run; forget an instance that is closed."""
        if batch.closed:
            self._tracks.pop(batch.instance, None)
            return
        track = self._tracks.get(batch.instance)
        if track is None:
            if len(self._tracks) >= self._most:
                return
            track = self._tracks[batch.instance] = _Track(self.values)
        track.add(batch)

    def durations(self, instance: str) -> tuple[float, ...]:
        """Seconds that the last runs took, oldest first."""
        track = self._tracks.get(instance)
        return () if track is None else tuple(value / 1000 for value in track.row(0))

    def lines(self, instance: str) -> list[Line]:
        """The values of an instance that are remembered."""
        track = self._tracks.get(instance)
        if track is None:
            return []
        series = [(number, one) for number, one in enumerate(track.series) if number and one is not None]
        return [Line(one.name, one.tags, track.row(number), one.total) for number, one in series]
