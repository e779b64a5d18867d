"""Floor 1: what a running check speaks into, and how its words become a batch."""

from __future__ import annotations

import re
import sys
from collections import Counter
from datetime import date, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from functools import partial
from itertools import repeat
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from vedette.cards import is_trace_id
from vedette.metrics import Batch, Event, Kind, LogRecord, Metric, Sample, ServiceCheck, Sketch, Status
from vedette.secrets import Masker, mask_urls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from vedette.filters import NameFilter
    from vedette.metrics import Tags, Value

    _Key = tuple[str, Tags, float | None]

_UNIFIED = frozenset({"environment", "env", "service", "version"})
"""Tags of which a series has one value: two would count it twice in every sum over services."""
_MOST_CACHED_TAGS = 20_000
_MOST_CACHED_ROWS = 20_000
_MOST_CACHED_NAMES = 20_000
_MOST_NAMED = 100
_MOST = int(sys.float_info.max)  # no receiver can hold more
_LEAST = -_MOST
_LONGEST_MESSAGE = 4_000
_LONGEST_TEXT = 100_000  # a larger one would hold up the loop while it is masked
_LEAST_CARD = 10**12
_SAFE = (bool, date, time_of_day, timedelta, UUID)
"""Of these types sinks write something else than `str` does, and nothing that anybody has to hide."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_BADNESS = {Status.OK: 0, Status.WARNING: 1, Status.UNKNOWN: 2, Status.CRITICAL: 3}
_sample = tuple.__new__  # what Sample(…) does, without its detour through keyword arguments
_log_record = partial(tuple.__new__, LogRecord)
_SINGLE_VALUED = frozenset({Kind.GAUGE, Kind.COUNTER, Kind.RATE})


class Channel:
    """What the runs of one instance share: declared names, tags, filters and the count of what was dropped.

    Args:
        instance: instance id, `<check>/<name>`.
        check: the check's name.
        metrics: the declared metrics.
        statuses: the declared service checks.
        tags: tags that every sample gets.
        open_names: let undeclared names pass (listeners and bridges).
        interval: seconds between runs.
        host: host name of the samples, empty where they must not depend on it.
        names: compiled `metrics:` option, or None.
        masker: blots secrets out of texts.
    """

    def __init__(
        self,
        instance: str,
        check: str,
        metrics: Iterable[Metric],
        statuses: Iterable[str],
        tags: Iterable[str] = (),
        *,
        open_names: bool = False,
        interval: float = 0.0,
        host: str = "",
        names: NameFilter | None = None,
        masker: Masker | None = None,
    ) -> None:
        self.instance = instance
        self.check = check
        self.open_names = open_names
        self.interval = interval
        self.host = host
        self.dropped: Counter[str] = Counter()
        self.undeclared: set[str] = set()
        self.mask: Callable[[str], str] = masker or (lambda text: text)
        self.cut: Callable[[str, int], str] = getattr(masker, "cut", lambda text, most: self.mask(text)[:most])
        self.known: Callable[[str], str] = getattr(masker, "known", self.mask)
        self.member: Callable[[str], str] = getattr(masker, "member", self.mask)
        self._masker = masker if isinstance(masker, Masker) else None  # tests have functions
        self._certain = self._masker.certain if self._masker is not None else ()
        self._filter = names
        self._tags = tuple(tags)
        self.base_tags: Tags = self._canonical(self._tags)
        self._tag_sets: dict[tuple[str, ...], Tags] = {(): self.base_tags}
        self._reported: set[str] = set()
        self._declared = {metric.name: metric.kind for metric in metrics}
        self._statuses = frozenset(statuses)
        self.names: dict[tuple[str, Kind], str] = {}
        self._rows: dict[tuple[int, tuple[str, ...]], tuple[Sequence[Metric], list[_Key | None]]] = {}

    def admit(self, name: str, kind: Kind) -> str | None:
        """The name to emit under, remembered in `names`; None if it is dropped (and counted where it is a fault)."""
        declared = self._declared.get(name)
        if declared is None and not self.open_names:
            self.drop("undeclared", name)
            return None
        if declared is not None and declared is not kind:
            self.drop("wrong_kind", name)
            return None
        out = name if self._filter is None else self._filter(name)
        if out is not None and declared is None and self._masker is not None:
            out = self._masker.tag(out)
        if out is not None:
            if len(self.names) >= _MOST_CACHED_NAMES:  # of bridges, whose names come from elsewhere
                self.names.clear()
            self.names[name, kind] = out
        return out

    def admit_status(self, name: str) -> str | None:
        """The name to report this service check under; None if it was not declared, which is counted."""
        if name in self._statuses:
            return name
        if self.open_names:
            return name if self._masker is None else self._masker.tag(name)
        self.drop("undeclared", name)
        return None

    def renew(self) -> None:
        """Forget what was derived from tags and names if the masker has learned a secret since."""
        if self._masker is None or self._masker.certain == self._certain:
            return
        self._certain = self._masker.certain
        self.base_tags = self._canonical(self._tags)
        self._tag_sets = {(): self.base_tags}
        self._rows.clear()
        self.names.clear()

    def bounded(self, text: str) -> str:
        """A text masked, of a very long one its beginning."""
        return self.cut(text, _LONGEST_TEXT)

    def drop(self, reason: str, name: str) -> None:
        """Count something that will not be delivered, and remember the name if it was not declared."""
        self.dropped[reason] += 1
        news = reason in ("undeclared", "wrong_kind") and name not in self._reported
        if news and len(self._reported) < _MOST_NAMED:
            self._reported.add(name)
            self.undeclared.add(name)

    def take_undeclared(self) -> list[str]:
        """Names that were dropped because the check does not declare them, each once in the instance's life."""
        news, self.undeclared = sorted(self.undeclared), set()
        return news

    def tag_set(self, tags: Iterable[str]) -> Tags:
        """These tags and the instance's own, canonical and shared between runs."""
        raw = tags if type(tags) is tuple else (tags,) if isinstance(tags, str) else tuple(tags)
        try:
            return self._tag_sets[raw]
        except KeyError:
            if len(self._tag_sets) >= _MOST_CACHED_TAGS:
                self._tag_sets = {(): self.base_tags}
            made = self._tag_sets[raw] = self._joined(raw)
            return made
        except TypeError:  # an unhashable tag
            return self._joined(raw)

    def _joined(self, raw: tuple[Any, ...]) -> Tags:
        """The instance's tags and these; where a source speaks for itself, its environment, service, version count."""
        tags = [str(tag) for tag in raw]
        if not self.open_names:
            return self._canonical((*self._tags, *tags))
        own = {tag.partition(":")[0] for tag in tags} & _UNIFIED
        return self._canonical((*(tag for tag in self._tags if tag.partition(":")[0] not in own), *tags))

    def _canonical(self, tags: tuple[str, ...]) -> Tags:
        return canonical_tags(tags if self._masker is None else self._masker.tags(tags))

    def row_keys(self, metrics: Sequence[Metric], tags: tuple[str, ...]) -> list[_Key | None]:
        """The identity of each sample of a row, shared between runs; None for names that are not admitted."""
        known = self._rows.get((id(metrics), tags))
        if known is not None and known[0] is metrics:
            return known[1]
        if not _SINGLE_VALUED.issuperset(one.kind for one in metrics):
            raise ValueError("a row holds gauges, counters and rates")
        full, faults = self.tag_set(tags), self.dropped.total()
        names = [self.names.get((one.name, one.kind)) or self.admit(one.name, one.kind) for one in metrics]
        keys: list[_Key | None] = [None if name is None else (name, full, None) for name in names]
        if len(self._rows) >= _MOST_CACHED_ROWS:
            self._rows.clear()
        if self.dropped.total() == faults:  # else each run counts them anew
            self._rows[id(metrics), tags] = (metrics, keys)
        return keys


def canonical_tags(tags: Iterable[str]) -> Tags:
    """The tags sorted, each once, control characters and passwords of URLs replaced, booleans in lower case."""
    clean = set()
    for tag in tags:
        text = mask_urls(_CONTROL.sub("_", tag).strip())
        if text.endswith((":True", ":False")):
            key, _, value = text.rpartition(":")
            text = f"{key}:{value.lower()}"
        if text:
            clean.add(text)
    return tuple(sorted(clean))


class Emit:
    """Collects what one run of a check has to say.

    All methods take `tags` (an iterable of `key:value`) and `time` (Unix seconds; None is the run's start).
    A name that the check did not declare, a number that is not finite and a repeated gauge are dropped or
    replaced, and counted in `vedette.check.dropped`; none of them raises.
    """

    def __init__(
        self,
        channel: Channel,
        time: float,
        flush: Callable[[Batch], Awaitable[None]] | None = None,
        clock: Callable[[], float] | None = None,
        save: Callable[[str, Any], Awaitable[bool]] | None = None,
        settled: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._channel = channel
        self._names = channel.names
        self._time = time
        self._flush = flush
        self._clock = clock
        self._save = save
        self._settled = settled
        self._dead = False
        self._reset()

    def _reset(self) -> None:
        self._channel.renew()
        self._points: dict[tuple[str, Tags, float | None], Sample] = {}
        self._many: list[Sample] = []
        self._statuses: dict[tuple[str, Tags], ServiceCheck] = {}
        self._events: list[Event] = []
        self._logs: list[LogRecord] = []
        self._commits: dict[str, Any] = {}

    def gauge(self, name: str, value: float | Decimal, tags: Iterable[str] = (), time: float | None = None) -> None:
        """A level now."""
        self._add(name, Kind.GAUGE, value, tags, time)

    def count(self, name: str, value: float | Decimal = 1, tags: Iterable[str] = (), time: float | None = None) -> None:
        """A delta: how many since the last run. Several in one run add up."""
        self._add(name, Kind.COUNT, value, tags, time)

    def counter(self, name: str, value: float | Decimal, tags: Iterable[str] = (), time: float | None = None) -> None:
        """A cumulative total, as the server reports it. Datadog gets the delta as a count."""
        self._add(name, Kind.COUNTER, value, tags, time)

    def rate(self, name: str, value: float | Decimal, tags: Iterable[str] = (), time: float | None = None) -> None:
        """A cumulative total, as the server reports it. Datadog gets a per-second gauge."""
        self._add(name, Kind.RATE, value, tags, time)

    def row(
        self, metrics: Sequence[Metric], values: Iterable[float | Decimal | None], tags: tuple[str, ...] = ()
    ) -> None:
        """Gauges, counters and rates that share their tags, in one call that costs a third of one each.

        Args:
            metrics: which, the same object every time: what is derived from it is kept.
            values: the value of each; None emits nothing.
            tags: their tags.
        """
        if self._dead:
            return
        points = self._points
        for metric, key, value in zip(metrics, self._channel.row_keys(metrics, tags), values, strict=True):
            if value is None or key is None:
                continue
            number = value.__class__
            good = _LEAST < value < _MOST if number is int else number is float and isfinite(value)
            if key in points or not good:
                self._add(metric.name, metric.kind, value, tags, None)
            else:
                points[key] = _sample(Sample, (key[0], metric.kind, value, key[1], None))

    def histogram(
        self, name: str, value: float | Decimal | Sketch, tags: Iterable[str] = (), time: float | None = None
    ) -> None:
        """One observation, aggregated per host by the receiver."""
        self._add(name, Kind.HISTOGRAM, value, tags, time)

    def distribution(
        self, name: str, value: float | Decimal | Sketch, tags: Iterable[str] = (), time: float | None = None
    ) -> None:
        """One observation, aggregated over all hosts by the receiver."""
        self._add(name, Kind.DISTRIBUTION, value, tags, time)

    def set(self, name: str, value: str | int, tags: Iterable[str] = (), time: float | None = None) -> None:
        """A member of a set whose distinct members are counted."""
        self._add(name, Kind.SET, value, tags, time)

    def _add(self, name: str, kind: Kind, value: Value, tags: Iterable[str], time: float | None) -> None:
        if self._dead:
            return
        try:
            out = self._names.get((name, kind)) or self._channel.admit(name, kind)
        except TypeError:
            self._channel.drop("bad_name", "")
            return
        if out is None:
            return
        number = value.__class__
        good = _LEAST < value < _MOST if number is int else number is float and isfinite(value)  # type: ignore[operator,arg-type]
        if not good:
            checked = _number(value, kind)
            if checked is None:
                self._channel.drop("not_finite" if isinstance(value, int | float | Decimal) else "bad_value", name)
                return
            value = self._channel.member(checked) if isinstance(checked, str) else checked
        full = self._channel.tag_set(tags)
        if kind in _SINGLE_VALUED:
            points = self._points
            key = (out, full, time)
            if key in points:
                self._channel.drop("duplicate", name)
            points[key] = Sample(out, kind, value, full, time)
        else:
            self._many.append(Sample(out, kind, value, full, time))

    def status(
        self,
        name: str,
        status: Status,
        message: str = "",
        tags: Iterable[str] = (),
        time: float | None = None,
    ) -> None:
        """A service check's result; the worst one of a run decides `health_check.status`."""
        out = None if self._dead else self._channel.admit_status(name)
        if out is None:
            return
        full = self._channel.tag_set(tags)
        text = self._channel.cut(str(message), _LONGEST_MESSAGE)
        if (out, full) in self._statuses:
            self._channel.drop("duplicate", name)
        self._statuses[out, full] = ServiceCheck(out, Status(status), text, full, time)

    def event(
        self,
        title: str,
        text: str = "",
        *,
        alert_type: str = "info",
        aggregation_key: str = "",
        tags: Iterable[str] = (),
        time: float | None = None,
    ) -> None:
        """Something that happened once. `alert_type` is error, warning, info or success."""
        if not self._dead:
            mask = self._channel.bounded
            full = self._channel.tag_set(tags)
            event = Event(mask(title), mask(text), mask(alert_type), mask(aggregation_key), full, time)
            self._events.append(event)

    def log(
        self,
        message: str,
        *,
        level: str = "info",
        tags: Iterable[str] = (),
        time: float | None = None,
        **attributes: Any,
    ) -> None:
        """One log line for the sinks that take logs (not for the agent's own log: that is `self.log`)."""
        if not self._dead:
            mask, full = self._channel.bounded, self._channel.tag_set(tags)
            self._logs.append(LogRecord(mask(message), mask(level), full, time, masked_values(attributes, mask)))

    def logs(
        self,
        messages: Sequence[str],
        levels: Iterable[str],
        times: Iterable[float | None],
        attributes: Iterable[Mapping[str, Any]],
        tags: tuple[str, ...] = (),
    ) -> None:
        """Many log lines that share their tags, for a tenth of what one each costs: nothing in them is masked.

        Whoever calls it has seen to that: with `masked` or `known` on a whole block of them, or on each.

        Args:
            messages: that of each.
            levels: as many, or an iterator that has more.
            times: Unix seconds of each, likewise; None is now.
            attributes: of each, likewise.
            tags: those of all.
        """
        if not self._dead:
            full = repeat(self._channel.tag_set(tags))
            self._logs += map(_log_record, zip(messages, levels, full, times, attributes, strict=False))

    def known(self, text: str) -> str:
        """The text without the secrets that the configuration has; what only looks like a password stays."""
        return self._channel.known(text)

    def masked(self, text: str) -> str:
        """The text without the secrets of the configuration.

        All texts are masked when they are emitted; this is for those that are cut or changed before, after which a
        secret might not be known any more.
        """
        return self._channel.mask(text)

    def commit(self, key: str, value: Any) -> None:
        """Store `value` (anything JSON can hold) under `key` once every sink's queue has this batch."""
        if not self._dead:
            self._commits[key] = value

    async def save(self, key: str, value: Any) -> bool:
        """Store `value` under `key` now and wait until it is on disk: what must survive a kill in the middle of a run.

        For an intention, such as a clean-up that will be due. What tells how far was delivered belongs to `commit`.

        Returns:
            Whether it is durable: False where the disk refuses, and in `vedette check`, which writes no state.
        """
        return not self._dead and self._save is not None and await self._save(key, value)

    @property
    def rehearses(self) -> bool:
        """Whether this is one run of a listener for a command: what it flushes stays in memory until its end."""
        return False

    async def settled(self) -> None:
        """Wait until what was flushed and committed is durable, for a listener that repeats one batch at most.

        That is when every durable sink is through with it and the state is on disk; at once where neither can be.
        While a durable sink is in trouble this waits, and what is not read yet waits with it.
        """
        if self._settled is not None and not self._dead:
            await self._settled()

    async def flush(self) -> None:
        """Hand over what was collected and wait until the sinks' queues have room (listeners only).

        Raises:
            RuntimeError: called by a periodic check, whose batch is handed over when the run ends.
        """
        if self._flush is None or self._clock is None:
            raise RuntimeError("only a Listener flushes; a Check's batch is handed over when its run ends")
        batch = self.batch()
        self._time = self._clock()
        self._reset()
        if not self._dead and (len(batch) or batch.commits):
            await self._flush(batch)

    def batch(self, *more: Sample) -> Batch:
        """What was collected so far, and `more` samples that the runner adds of its own."""
        channel = self._channel
        return Batch(
            instance=channel.instance,
            check=channel.check,
            time=self._time,
            interval=channel.interval,
            host=channel.host,
            samples=(*self._points.values(), *self._many, *more),
            statuses=tuple(self._statuses.values()),
            events=tuple(self._events),
            logs=tuple(self._logs),
            commits=tuple(self._commits.items()),
        )

    def tag_set(self, tags: Iterable[str]) -> Tags:
        """These tags and those that all samples of this run have, which a reload in between does not change."""
        return self._channel.tag_set(tags)

    def worst(self) -> ServiceCheck | None:
        """The status reported so far that is furthest from OK (critical, unknown, warning), or None."""
        return max(self._statuses.values(), key=lambda one: _BADNESS[one.status], default=None)

    def uncommit(self) -> None:
        """Forget the commits: the run failed, so what they stand for is collected again."""
        self._commits.clear()

    def go_on_in(self, channel: Channel) -> None:
        """Collect under another channel's tags and host from now on: what a listener needs, whose run never ends."""
        self._channel, self._names = channel, channel.names

    def kill(self) -> None:
        """Ignore everything from now on: the run was abandoned."""
        self._dead = True


class Gathering(Emit):
    """What a listener speaks into that is run once: what it flushes stays, for the one batch at the end."""

    @property
    def rehearses(self) -> bool:
        """It is."""
        return True

    async def flush(self) -> None:
        """Keep it."""


def masked_values(value: Any, mask: Callable[[str], str], key: str = "") -> Any:
    """A JSON value with every text in it masked, keys and numbers as long as a card's too; ids of traces stay."""
    if isinstance(value, str):
        return value if is_trace_id(key, value) else mask(value)
    if isinstance(value, dict | MappingProxyType):
        made: dict[Any, Any] = {}
        for name, inner in value.items():
            shown = masked_values(name, mask)
            while shown in made and shown != name:  # both were masked
                shown = f"{shown}*"
            made[shown] = masked_values(inner, mask, str(name))
        return made
    if isinstance(value, list | tuple | set | frozenset):
        return [masked_values(inner, mask, key) for inner in value]
    if value is None or isinstance(value, _SAFE) or (isinstance(value, Decimal) and not value.is_finite()):
        return value
    if isinstance(value, Enum):
        return masked_values(value.value, mask, key)
    if isinstance(value, Decimal | int | float):
        size: Any = abs(value)
        digits = str(int(size)) if _LEAST_CARD <= size < _LEAST_CARD * 10**7 else ""
        return value if not digits or is_trace_id(key, digits) or mask(digits) == digits else mask(digits)
    if isinstance(value, bytes | bytearray):
        return mask(value.decode("utf-8", "backslashreplace"))
    return mask(str(value))  # as the sinks would write it


def _number(value: Any, kind: Kind) -> Value | None:
    """The value made fit for its kind, or None if it cannot be."""
    if kind is Kind.SET:
        return str(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Sketch):
        return value if kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION) else None
    if isinstance(value, Decimal):
        return value if value.is_finite() and _LEAST < value < _MOST else None
    if isinstance(value, int):
        return int(value) if _LEAST < value < _MOST else None
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    return None
