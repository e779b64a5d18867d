"""What a Datadog check submitted, as samples: each kind as the Datadog Agent's own aggregator would take it.

Tags have no order and no doubles, as in the Agent's contexts: what is remembered of a series is under its set of tags.
Source: pkg/metrics (`monotonic_count.go`, `historate.go`) and pkg/aggregator of DataDog/datadog-agent.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vedette import Status
from vedette.kit import Budget, Sketch

if TYPE_CHECKING:
    import logging

    from vedette import Emit

_GAUGE, _RATE, _COUNT, _MONOTONIC, _COUNTER, _HISTOGRAM, _HISTORATE = range(7)
_STATES: Final = (Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN)
_POINTS: Final = 16
"""Into how many points the observations of a bucket are spread."""
_MOST_KNOWN: Final = 100_000
"""Totals that are remembered, or twice as many as a run may have."""
_MOST: Final = {"log": 200, "event": 10_000, "entry": 50_000, "status": 10_000, "observation": 200_000}
"""How many one run may submit of what `limit` does not bound: lines of the check's log, events, logs that it collects,
service checks, observations of histograms."""
_LEAST_LEVEL: Final = 10
_ALERTS: Final = ("error", "warning", "info", "success")

_Series = tuple[str, tuple[str, ...]]
_Key = TypeVar("_Key")
_Number = TypeVar("_Number", int, float)


class Ledger:
    """Takes over submissions and emits them; lives as long as the check's instance, over restarts of its process.

    Args:
        log: where the check's log goes.
        tags: on everything.
        limit: most series of a run.
        cache: what the check's persistent cache holds.
    """

    def __init__(self, log: logging.Logger, tags: tuple[str, ...], limit: int, cache: Mapping[str, str]) -> None:
        self.cache = dict(cache)
        self.submitted = 0
        """Metrics, service checks and events of this run."""
        self.dropped: Counter[str] = Counter()
        """What was not passed on in this run, by reason."""
        self._log = log
        self._tags = tags
        self._budget = Budget(limit)
        self._most_known = max(_MOST_KNOWN, 2 * limit)
        self._totals: dict[_Series, float] = {}
        self._buckets: dict[tuple[Any, ...], int] = {}
        self._takers: dict[str, Callable[..., None]] = {
            "metric": self._metric,
            "bucket": self._bucket,
            "status": self._status,
            "event": self._event,
            "platform": self._platform,
            "log": self._log_line,
            "entry": self._entry,
            "cache": self._keep,
        }

    def begin(self, emit: Emit) -> None:
        """A run begins."""
        self._emit = emit
        made = emit.batch()
        self._host, self._time = made.host, made.time
        self._budget.begin()
        self.submitted, self.dropped = 0, Counter()
        self._points: dict[_Series, list[tuple[float, bool]]] = {}
        self._paces: dict[_Series, tuple[float, float]] = {}
        self._spread: dict[_Series, dict[float, int]] = {}
        self._left = dict(_MOST)

    def take(self, entries: list[Any]) -> None:
        """Take over what was submitted."""
        for kind, *rest in entries:
            taker = self._takers.get(kind)
            if taker is None:
                raise ValueError(kind)
            taker(*rest)

    def _has_room(self, what: str) -> bool:
        """Whether one more of these goes; else it is counted."""
        self._left[what] -= 1
        if self._left[what] < 0:
            self.dropped[what] += 1
        return self._left[what] >= 0

    def end(self) -> None:
        """A run is over: emit what only its end tells."""
        for series, points in self._points.items():
            self._emit_total(series, points)
        for (name, tags), found in self._spread.items():
            bins = tuple(sorted(found.items()))
            total = math.fsum(value * number for value, number in bins)
            self._emit.distribution(name, Sketch(bins, total, bins[0][0], bins[-1][0]), tags)
        if self._budget.cut:
            self.dropped["series"] = self._budget.cut

    # Metrics

    def _metric(
        self, kind: int, name: str, value: float, tags: list[str], hostname: str, first: bool, time: float
    ) -> None:
        series = self._admitted(name, tags, hostname)
        if series is None or (kind in (_HISTOGRAM, _HISTORATE) and not self._has_room("observation")):
            return
        number = float(value)
        if kind == _MONOTONIC:
            self._points.setdefault(series, []).append((number, first))
        elif kind == _HISTORATE:
            self._historate(series, number, time)
        elif kind in (_COUNT, _COUNTER):
            self._emit.count(series[0], number, series[1])
        else:
            say = {_GAUGE: self._emit.gauge, _RATE: self._emit.rate, _HISTOGRAM: self._emit.histogram}[kind]
            say(series[0], number, series[1])

    def _admitted(self, name: Any, tags: Iterable[Any], hostname: Any) -> _Series | None:
        """The series that a submission belongs to; None where it has no name, or is one too many."""
        self.submitted += 1
        series = _clean(name).strip(), self._labels(tags, hostname)
        if not series[0]:
            self.dropped["no_name"] += 1
            return None
        return series if self._budget.admit(series) else None

    def _labels(self, tags: Iterable[Any], hostname: Any) -> tuple[str, ...]:
        given = {*map(_clean, tags), *self._tags}
        if hostname and hostname != self._host:
            given.add(f"host:{_clean(hostname)}")
        return tuple(sorted(given))

    def _historate(self, series: _Series, value: float, time: float) -> None:
        """The speed between two submissions of one run is an observation."""
        before, self._paces[series] = self._paces.get(series), (value, time)
        if before is not None and time > before[1]:
            self._emit.histogram(series[0], (value - before[0]) / (time - before[1]), series[1])

    def _emit_total(self, series: _Series, points: list[tuple[float, bool]]) -> None:
        """A total as it is now; where it fell or began, a point just before has sinks see its true growth."""
        now = points[-1][0]
        before = self._remembered(self._totals, series, now)
        growth = _growth(before, points)
        if growth and (before is None or now - before != growth):
            self._emit.counter(series[0], now - growth, series[1], math.nextafter(self._time, 0.0))
        self._emit.counter(series[0], now, series[1])

    def _bucket(
        self,
        name: str,
        value: int,
        lower: float,
        upper: float,
        monotonic: bool,
        hostname: str,
        tags: list[str],
        first: bool,
    ) -> None:
        series = self._admitted(name, tags, hostname)
        if series is None:
            return
        number = self._grown((*series, lower, upper), int(value), first) if monotonic else int(value)
        if number > 0 and not (math.isinf(lower) and math.isinf(upper)):
            found = self._spread.setdefault(series, {})
            for point, share in _spread(float(lower), float(upper), number):
                found[point] = found.get(point, 0) + share

    def _grown(self, series: tuple[Any, ...], value: int, first: bool) -> int:
        before = self._remembered(self._buckets, series, value)
        if before is None or value < before:
            return value if first else 0
        return value - before

    def _remembered(self, kept: dict[_Key, _Number], key: _Key, value: _Number) -> _Number | None:
        """The total as it was, which the new one replaces; what was not submitted for longest is forgotten."""
        before = kept.pop(key, None)
        if len(kept) >= self._most_known:
            del kept[next(iter(kept))]
        kept[key] = value
        return before

    # All else

    def _status(self, name: str, status: int, tags: list[str], hostname: str, message: str) -> None:
        self.submitted += 1
        if not self._has_room("status"):
            return
        state = _STATES[status] if 0 <= status < len(_STATES) else Status.UNKNOWN
        self._emit.status(_clean(name), state, _clean(message), self._labels(tags, hostname))

    def _event(self, event: dict[str, Any]) -> None:
        self.submitted += 1
        if not self._has_room("event"):
            return
        time, kind = event.get("timestamp"), str(event.get("alert_type", "info"))
        tags = event.get("tags")
        self._emit.event(
            _clean(event.get("msg_title", "")),
            _clean(event.get("msg_text", "")),
            alert_type=kind if kind in _ALERTS else "info",
            aggregation_key=_clean(event.get("aggregation_key", "")),
            tags=self._labels(tags if isinstance(tags, list) else (), event.get("host", "")),
            time=float(time) if isinstance(time, int | float) and time > 0 and math.isfinite(time) else None,
        )

    def _platform(self, kind: str) -> None:
        """Query samples of database monitoring and the like, which only Datadog's own intake reads."""
        self.dropped["platform_event"] += 1

    def _log_line(self, level: int, text: str) -> None:
        if self._has_room("log"):
            self._log.log(max(_LEAST_LEVEL, int(level)), "%s", _clean(text))

    def _entry(self, text: str) -> None:
        """A log that the check collected (`send_log`)."""
        if not self._has_room("entry"):
            return
        entry = json.loads(text)
        time, tags = entry.pop("timestamp", None), str(entry.pop("ddtags", ""))
        self._emit.log(
            _clean(entry.pop("message", "")),
            level=_clean(entry.pop("status", "info")),
            tags=self._labels(filter(None, tags.split(",")), entry.pop("hostname", "")),
            time=time / 1000 if isinstance(time, int | float) else None,
            **{f"{_clean(key)}_" if key in _TAKEN else _clean(key): value for key, value in entry.items()},
        )

    def _keep(self, key: str, value: str) -> None:
        self.cache[_clean(key)] = _clean(value)


_TAKEN: Final = frozenset({"self", "level", "tags", "time"})


def _growth(before: float | None, points: list[tuple[float, bool]]) -> float:
    """How much a total grew in a run, as the Datadog Agent counts: a fall adds nothing.

    `flush_first_value` says of a first point, and of one after a fall, that the total began at zero. Where it fell
    within a run the Agent also forgets how much it had grown before in that run; here that counts.
    """
    grown = 0.0
    for value, first in points:
        if before is not None and value >= before:
            grown += value - before
        elif first:
            grown += value
        before = value
    return grown


def _spread(lower: float, upper: float, number: int) -> Iterator[tuple[float, int]]:
    """The observations of a bucket, spread evenly over it; of one without an end all are where it begins or ends."""
    if math.isinf(upper) or math.isinf(lower):
        yield (lower if math.isinf(upper) else upper), number
        return
    parts = min(_POINTS, number)
    for part in range(parts):
        yield lower + (upper - lower) * (part + 0.5) / parts, number // parts + (part < number % parts)


def _clean(value: Any) -> str:
    """A text that everybody can write."""
    text = value if isinstance(value, str) else str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
