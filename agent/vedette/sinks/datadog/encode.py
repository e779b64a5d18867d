"""Samples as series and distribution points: JSON items that need only be joined to make a body."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from vedette import Batch, Kind, Metric, Sample
from vedette.kit import Deltas, Entry, Sketch
from vedette.sinks.datadog import lanes
from vedette.sinks.datadog.cut import Items
from vedette.sinks.datadog.words import LONGEST_TAG, encode_words, host_of, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_MOST_CACHED = 20_000
_LONGEST_NAME = 200
_MOST_VALUES = 5_000
_REMEMBERED = 60
"""Seconds after which a count that comes late is not for a second that was taken."""
_COUNT, _GAUGE = 1, 3
_NO_INTERVAL = 10
"""Seconds that a count without an interval of its own is said to stand for, as Datadog's agent does for DogStatsD."""
_PERCENTILE = 0.95
_BREAKS_NAME = re.compile(r"[^a-zA-Z0-9_.]")
_BEGINS_WRONG = re.compile(r"^[^a-zA-Z]+")

_encode = msgspec.json.Encoder(enc_hook=str).encode
Bins = tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class _Head:
    """What the points of one series have in common.

    Attributes:
        series: its item up to what does not make it another series, such as the interval.
        start: its item up to the first point.
        kind: of its record.
    """

    series: bytes
    start: bytes = field(compare=False)
    kind: lanes.Kind = field(compare=False)


class Encoder:
    """Translates batches; totals become deltas here, so what it made must be kept.

    Counts of one series and second are added up until `take`, since of points with one time the last wins at Datadog.
    Where a batch brings counts for a second that was taken already they go to the next one. A count with a time of its
    own replaces an earlier one of that time, and is added to those that happen to fall into that second.

    Args:
        deltas: the state of totals.
        catalog: declared metrics by name, for units.
        late: whether a metric has historical ingestion.
        distributions: whether histograms are sent as distributions.
    """

    def __init__(
        self, deltas: Deltas, catalog: Mapping[str, Metric], late: Callable[[str], bool], *, distributions: bool
    ) -> None:
        self.deltas = deltas
        self.repeats: frozenset[int] = frozenset()
        """Hashes of points to leave out: they were taken before a kill, and may be handed over once more."""
        self._catalog = catalog
        self._late = late
        self._distributions = distributions
        self._items: dict[lanes.Kind, Items] = {}
        self._counts: dict[tuple[_Head, int], Any] = {}
        self._heads: dict[Any, _Head] = {}
        self._points: dict[Any, bytes] = {}
        self._dated: dict[tuple[_Head, int], Any] = {}
        self._seconds: dict[bytes, int] = {}
        self._taken: dict[bytes, int] = {}
        """The last second of each series whose counts are on their way."""
        self._newest = 0

    def succeed(self, predecessor: Encoder) -> None:
        """Go on from the totals that another saw last, and behind the counts that it gave away."""
        self.deltas = predecessor.deltas
        self.begin_after(predecessor._taken)

    def begin_after(self, taken: Mapping[bytes, int]) -> None:
        """Counts of these series go behind the seconds given."""
        for series, second in taken.items():
            self._taken[series] = max(second, self._taken.get(series, 0))

    def add(self, batch: Batch) -> None:
        """Translate a batch."""
        groups: dict[tuple[str, Kind, tuple[str, ...], int], list[Any]] = {}
        dated: dict[tuple[_Head, int], Any] = {}
        series = self._items_of(lanes.Kind.SERIES)
        moment = int(batch.time)
        for sample in batch.samples:
            kind = sample.kind
            if kind is Kind.COUNTER or kind is Kind.RATE:
                reported = self.deltas.reported(batch, sample)
                if reported is None:
                    continue
                sample, kind = reported, reported.kind
            stamp = moment if sample.time is None else int(sample.time)
            if kind is Kind.GAUGE:
                head = self._head(batch, sample.name, _GAUGE, sample.tags)
                items = series if head.kind is lanes.Kind.SERIES else self._items_of(head.kind)
                items.add(b'%b%d,"value":%b}]}' % (head.start, stamp, number(sample.value)), stamp)
            elif kind is Kind.COUNT:
                head = self._head(batch, sample.name, _COUNT, sample.tags)
                if sample.time is None:
                    self._count(head, stamp, sample.value)
                else:
                    dated[head, stamp] = _sum(dated.get((head, stamp)), sample.value)
            else:
                groups.setdefault((sample.name, kind, sample.tags, stamp), []).append(sample.value)
        self._dated.update(dated)
        for (name, kind, tags, stamp), values in groups.items():
            self._group(batch, Sample(name, kind, 0, tags, stamp), values)
        for words, item, time in encode_words(batch):
            self._items_of(words).add(item, time)
        if batch.closed:
            self.deltas.forget(batch.instance)

    @property
    def size(self) -> int:
        """Bytes of what was made and not taken yet, some of it compressed."""
        return sum(items.size for items in self._items.values()) + 200 * (len(self._counts) + len(self._dated))

    @property
    def logs(self) -> int:
        """Bytes of log lines that were made and not taken yet, before compression."""
        lines = self._items.get(lanes.Kind.LOG)
        return lines.raw if lines is not None else 0

    def take_logs(self) -> list[Entry]:
        """The log lines that were made, as records."""
        lines = self._items.pop(lanes.Kind.LOG, None)
        return lines.take() if lines is not None else []

    def take(self) -> list[Entry]:
        """What was made, as records; counts that were added up are points from now on."""
        for key, value in self._dated.items():
            self._counts[key] = _sum(self._counts.get(key), value)
        for (head, stamp), value in self._counts.items():
            self._items_of(head.kind).add(b'%b%d,"value":%b}]}' % (head.start, stamp, number(value)), stamp)
        self._counts, self._dated = {}, {}
        self._note_taken()
        taken, self._items = self._items, {}
        return [entry for items in taken.values() for entry in items.take()]

    def _note_taken(self) -> None:
        seconds, self._seconds = self._seconds, {}
        self._taken.update(seconds)
        newest = max(seconds.values(), default=0)
        if newest >= self._newest + _REMEMBERED:
            self._newest = newest
            self._taken = {one: second for one, second in self._taken.items() if second > newest - _REMEMBERED}

    def _items_of(self, kind: lanes.Kind) -> Items:
        try:
            return self._items[kind]
        except KeyError:
            made = self._items[kind] = Items(kind, self.repeats)
            return made

    def _count(self, head: _Head, stamp: int, value: Any) -> None:
        taken = self._taken.get(head.series, 0)
        if taken - _REMEMBERED < stamp <= taken:  # that second's point is on its way: this one would replace it
            stamp = taken + 1
        self._seconds[head.series] = max(stamp, self._seconds.get(head.series, 0))
        key = (head, stamp)
        self._counts[key] = _sum(self._counts.get(key), value)

    # Several values of one series

    def _group(self, batch: Batch, like: Sample, values: list[Any]) -> None:
        stamp = int(like.time or 0)
        if like.kind is Kind.SET:
            self._gauge(batch, like.name, like.tags, stamp, len(set(values)))
        elif like.kind is Kind.DISTRIBUTION or self._distributions:
            self._distribution(batch, like, stamp, values)
        else:
            self._histogram(batch, like, stamp, values)

    def _gauge(self, batch: Batch, name: str, tags: tuple[str, ...], stamp: int, value: Any) -> None:
        head = self._head(batch, name, _GAUGE, tags)
        self._items_of(head.kind).add(b'%b%d,"value":%b}]}' % (head.start, stamp, number(value)), stamp)

    def _histogram(self, batch: Batch, like: Sample, stamp: int, values: list[Any]) -> None:
        """What Datadog's agent makes of a histogram by default; source: "DogStatsD: metric types, histogram"."""
        bins = _bins(values)
        count = sum(times for _, times in bins)
        if not count:
            return
        sketches = [value for value in values if isinstance(value, Sketch)]
        total = sum(value.sum if isinstance(value, Sketch) else float(value) for value in values)
        largest = max([bins[-1][0], *(sketch.max for sketch in sketches)])
        parts = (
            ("avg", total / count),
            ("median", _at(bins, count, 0.5)),
            ("95percentile", _at(bins, count, _PERCENTILE)),
            ("max", largest),
        )
        for suffix, value in parts:
            self._gauge(batch, f"{like.name}.{suffix}", like.tags, stamp, value)
        head = self._head(batch, f"{like.name}.count", _COUNT, like.tags)
        if stamp == int(batch.time):
            self._count(head, stamp, count)
        else:
            self._dated[head, stamp] = count

    def _distribution(self, batch: Batch, like: Sample, stamp: int, values: list[Any]) -> None:
        key = (like.name, like.tags, batch.host)
        start = self._points.get(key)
        if start is None:
            host = host_of(like.tags, batch.host)
            whole = _encode({"metric": metric_name(like.name), "tags": _tags(like.tags), "type": "distribution"}
                            | ({"host": host} if host else {}))  # fmt: skip
            if len(self._points) >= _MOST_CACHED:
                self._points.clear()
            start = self._points[key] = whole[:-1] + b',"points":[['
        items = self._items_of(lanes.Kind.DISTRIBUTION)
        for some in _spread(_bins(values)):
            items.add(b"%b%d,[%b]]]}" % (start, stamp, b",".join(some)), stamp)

    # Series

    def _head(self, batch: Batch, name: str, type_: int, tags: tuple[str, ...]) -> _Head:
        key = (name, type_, tags, batch.host, batch.interval if type_ == _COUNT else 0)
        try:
            return self._heads[key]
        except KeyError:
            if len(self._heads) >= _MOST_CACHED:
                self._heads.clear()
            made = self._heads[key] = self._make_head(batch, name, type_, tags)
            return made

    def _make_head(self, batch: Batch, name: str, type_: int, tags: tuple[str, ...]) -> _Head:
        item: dict[str, Any] = {"metric": metric_name(name), "type": type_, "tags": _tags(tags)}
        host = host_of(tags, batch.host)
        if host:
            item["resources"] = [{"name": host, "type": "host"}]
        series = _encode(item)[:-1]
        if type_ == _COUNT:
            item["interval"] = max(1, round(batch.interval)) if batch.interval else _NO_INTERVAL
        declared = self._catalog.get(name)
        if declared is not None and declared.unit:
            item["unit"] = declared.unit
        return _Head(
            series,
            _encode(item)[:-1] + b',"points":[{"timestamp":',
            lanes.Kind.LATE if self._late(name) else lanes.Kind.SERIES,
        )


def newest_counts(items: Iterable[bytes]) -> dict[bytes, int]:
    """The newest second of each series of counts among items that an encoder made."""
    found: dict[bytes, int] = {}
    for item in items:
        series, counted, rest = item.partition(b',"interval":')  # in a text of JSON its quotes would be escaped
        if counted:
            second = int(rest.partition(b',"points":[{"timestamp":')[2].partition(b",")[0] or 0)
            found[series] = max(second, found.get(series, 0))
    return found


def number(value: Any) -> bytes:
    """A number as JSON, a Decimal with all its digits and without an exponent."""
    if value.__class__ is Decimal:
        return f"{value:f}".encode()
    return repr(value).encode()


def metric_name(name: str) -> str:
    """A name as Datadog keeps it: letters, digits, `_` and `.`, beginning with a letter, at most 200 characters.

    Source: Datadog, "Custom metrics: naming".
    """
    clean = _BEGINS_WRONG.sub("", _BREAKS_NAME.sub("_", name))
    return clean[:_LONGEST_NAME] or "unnamed"


def _tags(tags: tuple[str, ...]) -> list[str]:
    return [text(tag)[:LONGEST_TAG] for tag in tags if not tag.startswith("host:")]


def _sum(one: Any, other: Any) -> Any:
    if one is None:
        return other
    try:
        return one + other
    except TypeError:  # a Decimal and a float
        return float(one) + float(other)


def _bins(values: Iterable[Any]) -> Bins:
    """All observations, as (value, times) in ascending order."""
    found: list[tuple[float, int]] = []
    for value in values:
        found += value.bins if isinstance(value, Sketch) else ((value, 1),)
    return tuple(sorted(found, key=lambda one: one[0]))


def _at(bins: Bins, count: int, share: float) -> float:
    """The value below which this share lies, by the nearest rank as in Datadog's agent."""
    rank = max(1, round(share * count))
    for value, times in bins:
        rank -= times
        if rank <= 0:
            return value
    return bins[-1][0]


def _spread(bins: Bins) -> Iterable[list[bytes]]:
    """Every observation, as many as one item takes at a time."""
    some: list[bytes] = []
    for value, times in bins:
        written = number(value)
        while times > 0:
            fits = min(times, _MOST_VALUES - len(some))
            some += [written] * fits
            times -= fits
            if len(some) >= _MOST_VALUES:
                yield some
                some = []
    if some:
        yield some
