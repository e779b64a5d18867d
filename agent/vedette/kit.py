"""Floor 1: what checks and sinks share. The second public module: `from vedette.kit import Deltas`."""

from __future__ import annotations

import re
from collections import OrderedDict
from operator import ge
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from vedette import cards
from vedette.certificates import ssl_context, tls_context
from vedette.courier import Courier, Reply, http_date, retry_after
from vedette.listen import ListenOptions
from vedette.metrics import Kind, Sample, Sketch
from vedette.notifier import alert_data, alert_from, delivery_id
from vedette.outgoing import HttpOptions
from vedette.probes import probe_clock, probe_dns, probe_file, probe_tcp, probe_tls, probe_unix
from vedette.prose import alert_text, clip, facts, figure, headline, links, moment, plot_line, sparkline, title_of
from vedette.renamed import Renamed, stand_in
from vedette.secrets import Masker, cut_tag, cut_text, mask, tells_of_secret
from vedette.sink import Batches
from vedette.spool import DamagedError, Entry, Outcome, Piece, Record, Spool, SpoolTakenError
from vedette.units import Size

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator

    from vedette.metrics import Batch, Tags, Value

    _Row = tuple[tuple[Any, ...], tuple[Any, ...], int]
    """Totals as they were counted last, as they were emitted last, and the round."""

__all__ = [
    "Batches",
    "Budget",
    "Courier",
    "DamagedError",
    "Deltas",
    "Entry",
    "HttpOptions",
    "ListenOptions",
    "Masker",
    "Outcome",
    "Piece",
    "PromNames",
    "Record",
    "Renamed",
    "Reply",
    "Size",
    "Sketch",
    "Spool",
    "SpoolTakenError",
    "Totals",
    "alert_data",
    "alert_from",
    "alert_text",
    "cards",
    "clip",
    "cut_tag",
    "cut_text",
    "delivery_id",
    "facts",
    "figure",
    "given",
    "headline",
    "http_date",
    "json_objects",
    "links",
    "mask",
    "moment",
    "plot_line",
    "probe_clock",
    "probe_dns",
    "probe_file",
    "probe_tcp",
    "probe_tls",
    "probe_unix",
    "retry_after",
    "sparkline",
    "ssl_context",
    "tells_of_secret",
    "title_of",
    "tls_context",
]

_RENAMED: dict[str, tuple[str, str]] = {}
"""By the old name: the new one, and what removes the old one, such as `vedette 2.0`."""


if not TYPE_CHECKING:  # to whom every name would else be good

    def __getattr__(name: str) -> Any:
        return stand_in(__name__, _RENAMED, name)


_FORGET_AFTER = 1_000  # runs


class Deltas:
    """Turns cumulative totals into deltas and rates, per series, and forgets the series of closed instances.

    A first sight gives nothing; a fall (a restarted server) sets a new base and gives nothing; a dropped batch
    heals, since the next delta spans the gap.
    """

    def __init__(self) -> None:
        self._owners: dict[str, dict[Hashable, tuple[Any, float]]] = {}

    def delta(self, owner: str, series: Hashable, value: Any, time: float) -> Any:
        """How much the total grew since its last sample, or None where that cannot be said.

        Args:
            owner: instance id; `forget` drops all its series.
            series: what tells this series from others, such as (name, tags).
            value: the total now: int, float or Decimal.
            time: Unix seconds of this sample.
        """
        step = self._step(owner, series, value, time)
        return None if step is None else step[0]

    def rate(self, owner: str, series: Hashable, value: Any, time: float) -> float | None:
        """Growth per second since the last sample, by the real time between the two; None as in `delta`."""
        step = self._step(owner, series, value, time)
        if step is None or step[1] <= 0:
            return None
        return float(step[0]) / step[1]

    def reported(self, batch: Batch, sample: Sample) -> Sample | None:
        """A sample as Datadog gets it: of a counter its growth as a count, of a rate its speed as a gauge.

        Args:
            batch: the sample's.
            sample: of any kind; those that are no totals stay as they are.

        Returns:
            The sample, or None where a total has no growth to report yet.
        """
        if sample.kind is not Kind.COUNTER and sample.kind is not Kind.RATE:
            return sample
        moment = batch.time if sample.time is None else sample.time
        step = self.delta if sample.kind is Kind.COUNTER else self.rate
        value = step(batch.instance, (sample.name, sample.tags), sample.value, moment)
        if value is None:
            return None
        return sample._replace(kind=Kind.COUNT if sample.kind is Kind.COUNTER else Kind.GAUGE, value=value)

    def forget(self, owner: str) -> None:
        """Drop every series of this instance."""
        self._owners.pop(owner, None)

    def _step(self, owner: str, series: Hashable, value: Any, time: float) -> tuple[Any, float] | None:
        known = self._owners.setdefault(owner, {})
        base = known.get(series)
        if base is not None and time < base[1]:
            return None  # an older point arrived late: it must not become the base of the next one
        known[series] = (value, time)
        if base is None or value < base[0]:
            return None
        try:
            return value - base[0], time - base[1]
        except TypeError:  # a Decimal after a float: exact digits cannot be had from the two
            return None


class Totals:
    """Keeps cumulative totals level where whoever counts them begins anew, so that no sink sees a leap.

    A sink takes a fall for a restart, but a failover behind one name can also bring a *higher* total, which would look
    like growth. A check that knows who counts (the server's start time, its run id) says so with `counted_by`; where
    that changes, and where a total falls, the value goes on from the last one: what happened in between is not known.
    A series that was not seen for a thousand runs is forgotten.
    """

    def __init__(self) -> None:
        self._source: Hashable = None
        self._round = 0
        self._runs = 0
        self._series: dict[Hashable, _Row] = {}
        self._older: dict[Hashable, _Row] = {}

    def counted_by(self, source: Hashable) -> None:
        """Say, before a run's totals, who counts them."""
        self._runs += 1
        if self._runs % _FORGET_AFTER == 0:
            self._older, self._series = self._series, {}
        if source != self._source:
            self._source = source
            self._round += 1

    def level(self, series: Hashable, value: Any) -> Any:
        """The value to emit for this series: its total, plus what it takes to go on from the last one.

        Args:
            series: what tells this series from others, such as (name, tags).
            value: the total as counted: int, float or Decimal, the same type every time.
        """
        return self.levels(series, (value,))[0]

    def levels(self, series: Hashable, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same for several totals of one thing at once, such as a row of a table, which is much cheaper.

        Args:
            series: what tells this row from others.
            values: its totals, always as many and in the same order; None where one is not known.
        """
        last = self._series.get(series) or self._older.get(series)
        if last is None or self._undisturbed(last, values):
            self._series[series] = (values, values, self._round)
            return values
        raw, level, round_ = last
        same = round_ == self._round
        made = tuple(_step(*each, same=same) for each in zip(values, raw, level, strict=True))
        known = tuple(old if new is None else new for new, old in zip(values, raw, strict=True))
        self._series[series] = (known, known if made == known else made, self._round)
        return tuple(None if value is None else one for value, one in zip(values, made, strict=True))

    def _undisturbed(self, last: _Row, values: tuple[Any, ...]) -> bool:
        raw, level, round_ = last
        if round_ != self._round or level is not raw or None in values or None in raw:
            return False
        return all(map(ge, values, raw))


def _step(value: Any, raw: Any, level: Any, *, same: bool) -> Any:
    if level is None:
        return value
    if value is None or not same or value <= raw:
        return level
    return value if level == raw else level + (value - raw)


class Budget:
    """Limits how many distinct keys (tag sets, tables, queues) an instance reports; the rest is counted as cut.

    The keys admitted first stay; one that was not asked for during a whole round makes room.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.cut = 0
        """Distinct keys refused in this round."""
        self._kept: OrderedDict[Hashable, None] = OrderedDict()
        self._seen: set[Hashable] = set()
        self._refused: set[Hashable] = set()

    def begin(self) -> None:
        """Start a round, usually a run: forget keys that the last round did not ask for, and the cut."""
        if self._seen or self._refused:
            for key in [key for key in self._kept if key not in self._seen]:
                del self._kept[key]
        self._seen = set()
        self._refused = set()
        self.cut = 0

    def admit(self, key: Hashable) -> bool:
        """Whether this key may be reported."""
        if key in self._kept:
            self._seen.add(key)
            return True
        if len(self._kept) < self.limit:
            self._kept[key] = None
            self._seen.add(key)
            return True
        self._refused.add(key)
        self.cut = len(self._refused)
        return False


_NOT_METRIC = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_LABEL = re.compile(r"[^a-zA-Z0-9_]")


class PromNames:
    """Prometheus names and labels for dotted names and `key:value` tags.

    Source: Prometheus data model, "Metric names and labels".
    """

    def __init__(self) -> None:
        self._labels: dict[Tags, tuple[tuple[str, str], ...]] = {}

    @staticmethod
    def metric(name: str) -> str:
        """`redis.mem.used` as `redis_mem_used`."""
        clean = _NOT_METRIC.sub("_", name)
        return f"_{clean}" if clean[:1].isdigit() or not clean else clean

    def labels(self, tags: Tags) -> tuple[tuple[str, str], ...]:
        """Label pairs of tags, sorted by key; a tag without a value becomes "true", repeated keys join with ','."""
        try:
            return self._labels[tags]
        except KeyError:
            if len(self._labels) > 50_000:
                self._labels.clear()
            made = self._labels[tags] = self._make(tags)
            return made

    @staticmethod
    def _make(tags: Tags) -> tuple[tuple[str, str], ...]:
        pairs: dict[str, list[str]] = {}
        for tag in tags:
            key, colon, value = tag.partition(":")
            label = _NOT_LABEL.sub("_", key)
            if label[:1].isdigit() or not label:
                label = f"_{label}"
            if label.startswith("__"):  # reserved for Prometheus itself
                label = f"tag{label}"
            pairs.setdefault(label, []).append(value if colon else "true")
        return tuple((key, ",".join(values)) for key, values in sorted(pairs.items()))


def given(config: Any, names: Collection[str]) -> list[str]:
    """Which of these options were given in validated options, at any depth: those that `Check.reaches` refuses.

    Args:
        config: options, or any value among them.
        names: of options, as their fields are called.

    Returns:
        Dotted paths without indexes, such as `scan.budget`, sorted.
    """
    return sorted(set(_given(config, names, "")))


def _given(value: Any, names: Collection[str], path: str) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            inner = f"{path}.{name}" if path else name
            if name in names:
                yield inner
            yield from _given(vars(value)[name], names, inner)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _given(item, names, path)


def json_objects(batch: Batch) -> Iterator[dict[str, Any]]:
    """One JSON-ready object for each sample, status, event and log of a batch, as the file sink writes them.

    Totals stay totals; a Decimal stays a Decimal (write it with `msgspec.json.Encoder(decimal_format="number")`).
    """
    head = {"time": batch.time, "check": batch.check, "instance": batch.instance.partition("/")[2]}
    if batch.host:
        head["host"] = batch.host

    def start(time: float | None) -> dict[str, Any]:
        return head if time is None else {**head, "time": time}

    for sample in batch.samples:
        yield {
            **start(sample.time),
            "name": sample.name,
            "kind": sample.kind.value,
            "value": _plain(sample.value),
            "tags": sample.tags,
        }
    for status in batch.statuses:
        yield {
            **start(status.time),
            "name": status.name,
            "kind": "status",
            "value": int(status.status),
            "status": status.status.name.lower(),
            "message": status.message,
            "tags": status.tags,
        }
    for event in batch.events:
        yield {
            **start(event.time),
            "name": event.title,
            "kind": "event",
            "value": event.text,
            "alert_type": event.alert_type,
            "tags": event.tags,
        }
    for log in batch.logs:
        yield {
            **start(log.time),
            "name": "log",
            "kind": "log",
            "value": log.message,
            "level": log.level,
            "attributes": dict(log.attributes),
            "tags": log.tags,
        }


def _plain(value: Value) -> Any:
    if isinstance(value, Sketch):
        return {"count": value.count, "sum": value.sum, "min": value.min, "max": value.max, "bins": value.bins}
    return value
