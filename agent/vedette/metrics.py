"""Floor 0: the values that flow from a check to a sink, and how a check declares its metrics."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette.lease import Lease


class Kind(enum.StrEnum):
    """What a number means, so that each sink can translate it."""

    GAUGE = "gauge"
    """A level now, such as bytes used."""
    COUNT = "count"
    """A delta since the last sample, such as requests served in this interval."""
    COUNTER = "counter"
    """A cumulative total that Datadog gets as deltas."""
    RATE = "rate"
    """A cumulative total that Datadog gets as a per-second gauge."""
    HISTOGRAM = "histogram"
    """One observation of a distribution, aggregated by the receiver per host."""
    DISTRIBUTION = "distribution"
    """One observation of a distribution, aggregated by the receiver over all hosts."""
    SET = "set"
    """A member of a set whose distinct members are counted."""


class Status(enum.IntEnum):
    """The result of a service check, numbered as in DogStatsD and Nagios."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of a metric that a check may emit.

    Attributes:
        name: dotted name, such as `redis.mem.used`.
        kind: what its numbers mean.
        unit: singular, from Datadog's list of units, such as `byte`; `per` makes it `byte per second`.
        help: one sentence for people.
        tags: the tag keys its samples carry beside the instance's own.
        per: the second unit of a rate, such as `second`.
    """

    name: str
    kind: Kind
    unit: str = ""
    help: str = ""
    tags: tuple[str, ...] = ()
    per: str = ""


@dataclass(frozen=True, slots=True)
class Sketch:
    """Many observations in one value: what a histogram or distribution sample carries when a listener aggregated.

    Attributes:
        bins: (value, how many observations) pairs in ascending order of value.
        sum: exact sum of all observations.
        min: smallest observation.
        max: largest observation.
    """

    bins: tuple[tuple[float, int], ...]
    sum: float
    min: float
    max: float

    @property
    def count(self) -> int:
        """How many observations there are."""
        return sum(n for _, n in self.bins)


Value = int | float | Decimal | str | Sketch
"""What a sample carries: a number (exact for money), a set's member (str) or a sketch."""

Tags = tuple[str, ...]
"""Sorted `key:value` strings."""


class Sample(NamedTuple):
    """One measured value of one series.

    A named tuple because tens of thousands are made each second: it costs a third of a frozen dataclass.

    Attributes:
        name: dotted metric name.
        kind: what the number means; totals stay totals until a sink translates them.
        value: a finite number, a set's member or a sketch.
        tags: sorted `key:value` strings, `instance:<name>` among them.
        time: Unix seconds, or None for the batch's own time.
    """

    name: str
    kind: Kind
    value: Value
    tags: Tags = ()
    time: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """A status that a check reports, such as `redis.can_connect`."""

    name: str
    status: Status
    message: str = ""
    tags: Tags = ()
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened once; `alert_type` is error, warning, info or success."""

    title: str
    text: str
    alert_type: str = "info"
    aggregation_key: str = ""
    tags: Tags = ()
    time: float | None = None


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log line; `level` as in logging (`info`), `attributes` any JSON values."""

    message: str
    level: str = "info"
    tags: Tags = ()
    time: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything that one run of one instance produced; immutable, shared by all sinks.

    Attributes:
        instance: instance id, `<check>/<name>`.
        check: the check's name.
        time: wall time of the run's start, Unix seconds.
        interval: seconds between runs, or 0 where there is no fixed one.
        host: host name, empty where the series must not depend on the host.
        samples: the measurements.
        statuses: the service checks.
        events: things that happened.
        logs: log lines.
        commits: (key, value) pairs to store once every outbox has accepted the batch.
        closed: the instance is gone: sinks forget its series.
        lease: the right to run the instance, under which this was collected; None where every agent may run it.
    """

    instance: str
    check: str
    time: float
    interval: float = 0.0
    host: str = ""
    samples: tuple[Sample, ...] = ()
    statuses: tuple[ServiceCheck, ...] = ()
    events: tuple[Event, ...] = ()
    logs: tuple[LogRecord, ...] = ()
    commits: tuple[tuple[str, Any], ...] = ()
    closed: bool = False
    lease: Lease | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        """How many things there are to deliver."""
        return len(self.samples) + len(self.statuses) + len(self.events) + len(self.logs)
