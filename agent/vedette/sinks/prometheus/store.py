"""The series of the page: what each sample does to them, and the families that a scrape reads."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from vedette import Batch, Kind, Metric, Sample
from vedette.kit import PromNames, Sketch

_LIFETIMES = 3  # intervals that a series stays unseen
_LIFETIME = 300.0  # seconds, for instances without an interval
_SWEEP = 15.0
_MOST_MEMBERS = 100_000
_STATUS = "status"


@dataclass(frozen=True, slots=True)
class _Name:
    """A metric as Prometheus sees it: one dotted name and kind, whose first series claimed the page's names.

    Attributes:
        dotted: the name in vedette.
        kind: the kind of its samples, or `status`.
        family: the Prometheus name, for counters without `_total`.
        type: counter, gauge or histogram.
        claims: every name that its lines may bear in one of the formats.
    """

    dotted: str
    kind: str
    family: str
    type: str
    claims: tuple[str, ...]


@dataclass(slots=True)
class _Series:
    """The state of one series. `value` is a float, a histogram's counts and sum, or a set's members and times."""

    name: _Name
    kind: str
    labels: dict[str, str]
    identity: tuple[str, tuple[tuple[str, str], ...]]
    value: Any
    when: float = float("-inf")
    seen: float = 0.0


@dataclass(slots=True)
class _Instance:
    """The series of one instance."""

    lifetime: float
    next_sweep: float
    lease: Any = None
    series: dict[tuple[str, tuple[str, ...]], _Series] = field(default_factory=dict)


@dataclass(slots=True)
class _Observed:
    """What a classic histogram is made of: observations per bucket (the last is beyond all bounds) and their sum."""

    counts: list[int]
    sum: float = 0.0


class Store:
    """The newest state of every series, written by the agent's loop and read by scrapers' threads.

    It is what `prometheus_client` calls a registry: it has `collect` and `restricted_registry`.

    Args:
        buckets: ascending upper bounds of histogram buckets.
        set_window: seconds over which a set's members are counted.
        catalog: declared metrics by name, for help texts; may grow.
        complain: called once for each name that cannot be shown.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        buckets: Iterable[float],
        set_window: float,
        catalog: Mapping[str, Metric],
        complain: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = tuple(float(bound) for bound in buckets)
        self._window = set_window
        self._catalog = catalog
        self._complain = complain
        self._clock = clock
        self._lock = threading.Lock()  # held for one instance at a time, so that neither side waits long
        self._instances: dict[str, _Instance] = {}
        self._names: dict[str, tuple[_Name, int]] = {}
        self._claimed: dict[str, str] = {}
        self._taken: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        self._complained: set[str] = set()
        self._prom = PromNames()

    def add(self, batch: Batch) -> int:
        """Take a batch over; returns how many samples could not be shown."""
        now = self._clock()
        with self._lock:
            if batch.closed:
                self._drop(batch.instance)
                return 0
            instance = self._instances.get(batch.instance)
            if instance is None:
                instance = self._instances[batch.instance] = _Instance(0.0, now + _SWEEP)
            instance.lease = batch.lease
            instance.lifetime = _LIFETIMES * batch.interval if batch.interval else _LIFETIME
            lost = 0
            for sample in batch.samples:
                if not self._take(instance, sample, sample.kind, batch.time, now):
                    lost += 1
            for status in batch.statuses:
                as_sample = Sample(status.name, Kind.GAUGE, int(status.status), status.tags, status.time)
                self._take(instance, as_sample, _STATUS, batch.time, now)
            if now >= instance.next_sweep:
                self._sweep(instance, now)
            return lost

    def _take(self, instance: _Instance, sample: Sample, kind: str, batch_time: float, now: float) -> bool:
        key = (sample.name, sample.tags)
        series = instance.series.get(key)
        if series is None or series.kind is not kind:
            if series is not None or (series := self._admit(sample.name, kind, sample.tags)) is None:
                self._complain_once(f"{sample.name}: not shown as {kind}: the name is already used for something else")
                return False
            instance.series[key] = series
        series.seen = now
        when = batch_time if sample.time is None else sample.time
        number: Any = sample.value
        if kind in _LEVELS:
            if when >= series.when:  # a late point must not replace a newer one
                series.when = when
                series.value = number if number.__class__ is float else float(number)
            return True
        return self._accumulate(series, number, now)

    def _accumulate(self, series: _Series, number: Any, now: float) -> bool:
        if series.kind == Kind.COUNT:
            if number < 0:
                self._complain_once(f"{series.name.dotted}: a negative count cannot be shown: counters only grow")
                return False
            series.value += float(number)
        elif series.kind == Kind.SET:
            members: dict[str, float] = series.value
            if number not in members and len(members) >= _MOST_MEMBERS:
                self._complain_once(f"{series.name.dotted}: counts no more than {_MOST_MEMBERS} members")
                return False
            members.pop(number, None)
            members[number] = now  # at the end: members stay in the order of their time
        else:
            observed: _Observed = series.value
            bins = number.bins if isinstance(number, Sketch) else ((number, 1),)
            for value, times in bins:
                observed.counts[bisect.bisect_left(self._bounds, value)] += times
            observed.sum += number.sum if isinstance(number, Sketch) else float(number)
        return True

    # Names

    def _admit(self, dotted: str, kind: str, tags: tuple[str, ...]) -> _Series | None:
        """A new series, or None where its name or its labels are already used for another."""
        name, users = self._names.get(dotted) or (_name(dotted, kind), 0)
        if name.kind != kind:
            return None
        if not users and any(claim in self._claimed for claim in name.claims):
            return None
        pairs = self._prom.labels(tags)
        identity = (name.family, pairs)
        if identity in self._taken:
            return None
        if not users:
            self._claimed.update(dict.fromkeys(name.claims, dotted))
        self._names[dotted] = (name, users + 1)
        self._taken.add(identity)
        labels = {f"tag_{key}" if key == "le" else key: value for key, value in pairs}
        return _Series(name, kind, labels, identity, self._empty(kind))

    def _empty(self, kind: str) -> Any:
        if kind == Kind.SET:
            return {}
        if kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION):
            return _Observed([0] * (len(self._bounds) + 1))
        return 0.0

    def _release(self, series: _Series) -> None:
        self._taken.discard(series.identity)
        name, users = self._names[series.name.dotted]
        if users > 1:
            self._names[name.dotted] = (name, users - 1)
            return
        del self._names[name.dotted]
        for claim in name.claims:
            del self._claimed[claim]

    def _drop(self, instance: str) -> None:
        gone = self._instances.pop(instance, None)
        if gone is not None:
            for series in gone.series.values():
                self._release(series)

    def _sweep(self, instance: _Instance, now: float) -> None:
        """Remove the series that were not seen for too long, and members out of the window."""
        instance.next_sweep = now + _SWEEP
        oldest = now - instance.lifetime
        for key in [key for key, series in instance.series.items() if series.seen < oldest]:
            self._release(instance.series.pop(key))
        for series in instance.series.values():
            if series.kind == Kind.SET:
                _forget_members(series.value, now - self._window)

    def _complain_once(self, what: str) -> None:
        if what not in self._complained and len(self._complained) < 1_000:
            self._complained.add(what)
            self._complain(what)

    # Reading, by scrapers' threads

    def collect(self) -> Iterator[Family]:
        """The page's families, sorted by name; called by `prometheus_client`."""
        families: dict[str, Family] = {}
        with self._lock:
            instances = list(self._instances)
        for instance in instances:
            with self._lock:
                rows = self._snapshot(instance)
            for name, labels, value in rows:
                family = families.get(name.family)
                if family is None:
                    family = families[name.family] = Family(name.family, self._help(name), name.type)
                self._write(family, labels, value)
        yield from (families[name] for name in sorted(families))

    def restricted_registry(self, names: Iterable[str]) -> _Some:
        """The same with only the families that have one of these names; serves `?name[]=`."""
        return _Some(self, frozenset(names))

    def _snapshot(self, name: str) -> list[tuple[_Name, dict[str, str], Any]]:
        instance = self._instances.get(name)
        if instance is None or (instance.lease is not None and not instance.lease.held):
            return []  # or another agent shows the same series
        self._sweep(instance, self._clock())
        if not instance.series:
            del self._instances[name]
        return [(series.name, series.labels, _copy(series.value)) for series in instance.series.values()]

    def _help(self, name: _Name) -> str:
        if name.kind == _STATUS:
            return f"Status of {name.dotted}: 0 OK, 1 warning, 2 critical, 3 unknown."
        metric = self._catalog.get(name.dotted)
        text = (metric.help if metric else "") or f"{name.dotted}."
        if metric is None or not metric.unit:
            return text
        return f"{text} Unit: {metric.unit}{f' per {metric.per}' if metric.per else ''}."

    def _write(self, family: Family, labels: dict[str, str], value: Any) -> None:
        if isinstance(value, float):
            family.add_sample(f"{family.name}_total" if family.type == "counter" else family.name, labels, value)
            return
        so_far = 0
        for bound, count in zip((*self._bounds, float("inf")), value.counts, strict=True):
            so_far += count
            le = floatToGoString(bound)  # type: ignore[no-untyped-call]
            family.add_sample(f"{family.name}_bucket", {**labels, "le": le}, so_far)
        family.add_sample(f"{family.name}_count", labels, so_far)
        family.add_sample(f"{family.name}_sum", labels, value.sum)


_LEVELS = frozenset({Kind.GAUGE, Kind.COUNTER, Kind.RATE, _STATUS})
"""Kinds of which the newest value is all that counts: totals are shown as they are."""


@dataclass(frozen=True, slots=True)
class _Some:
    """Part of a store."""

    store: Store
    names: frozenset[str]

    def collect(self) -> Iterator[Family]:
        """The families asked for."""
        for family in self.store.collect():
            if self.names & {family.name, *(sample.name for sample in family.samples)}:
                yield family


def _name(dotted: str, kind: str) -> _Name:
    name = PromNames.metric(dotted)
    if kind in (Kind.COUNT, Kind.COUNTER, Kind.RATE):
        name = name.removesuffix("_total") or name
        return _Name(dotted, kind, name, "counter", (name, f"{name}_total", f"{name}_created"))
    if kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION):
        parts = ("", "_bucket", "_sum", "_count", "_created")
        return _Name(dotted, kind, name, "histogram", tuple(f"{name}{part}" for part in parts))
    return _Name(dotted, kind, name, "gauge", (name,))


def _copy(value: Any) -> Any:
    if isinstance(value, _Observed):
        return _Observed(value.counts.copy(), value.sum)
    return float(len(value)) if isinstance(value, dict) else value


def _forget_members(members: dict[str, float], oldest: float) -> None:
    while members:
        first = next(iter(members))
        if members[first] >= oldest:
            return
        del members[first]
