"""One line of DogStatsD, taken apart: metrics, events and service checks of the protocol's versions 1.0 to 1.6.

Protocol: Datadog, "Datagram format and shell usage"; where it is silent, as Datadog's agent does it. This is the
careful way, taken once for each series; `intake` has the short one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from vedette import Kind, Status

KINDS = {
    b"c": Kind.COUNT,
    b"g": Kind.GAUGE,
    b"h": Kind.HISTOGRAM,
    b"ms": Kind.HISTOGRAM,
    b"d": Kind.DISTRIBUTION,
    b"s": Kind.SET,
}
"""The types of a metric; a timing is a histogram of milliseconds."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WHOLE = re.compile(rb"\d{1,15}")
_HEADER = re.compile(rb"_e\{(\d{1,9}),(\d{1,9})\}:")
_STATUSES = {b"0": Status.OK, b"1": Status.WARNING, b"2": Status.CRITICAL, b"3": Status.UNKNOWN}
_ALERT_TYPES = frozenset({"error", "warning", "info", "success"})
_ENTITY, _CARDINALITY, _JMX = "dd.internal.entity_id:", "dd.internal.card:", "dd.internal.jmx_check_name:"
_LONGEST_NAME = 1_000
_LONGEST_TAIL = 8_192  # as much as all of a packet of Datadog's clients
_LEAST_RATE = 1e-9


class MalformedError(ValueError):
    """A line is not DogStatsD; the text says why, in a few words that are the same for all lines of one kind."""


class Origin(NamedTuple):
    """Who sent a line, by its own account.

    Attributes:
        container: container id, or `in-` and the inode of its cgroup (`c:`).
        pod: UID of the pod (`e:`, or the tag `dd.internal.entity_id`).
        container_name: name of the container in its pod (`e:`).
        cardinality: `none`, `low`, `orchestrator` or `high`, or empty (`card:`).
    """

    container: str = ""
    pod: str = ""
    container_name: str = ""
    cardinality: str = ""


NOBODY = Origin()
"""The origin of a line that tells none."""


@dataclass(frozen=True, slots=True)
class MetricLine:
    """A metric. `values` is as it came: one number, several with colons between, or a set's member.

    Attributes:
        name: the metric's name.
        kind: what its numbers mean.
        values: the field between the first colon and the first bar.
        rate: share of what happened that was sent, in (0, 1].
        tags: sorted, each once.
        time: Unix seconds, or None for now.
        origin: who sent it.
    """

    name: str
    kind: Kind
    values: bytes
    rate: float = 1.0
    tags: tuple[str, ...] = ()
    time: int | None = None
    origin: Origin = NOBODY


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event; the attributes are those of `vedette.Event`."""

    title: str
    text: str
    alert_type: str
    aggregation_key: str
    tags: tuple[str, ...]
    time: int | None
    origin: Origin = NOBODY


@dataclass(frozen=True, slots=True)
class CheckLine:
    """A service check; the attributes are those of `vedette.ServiceCheck`."""

    name: str
    status: Status
    message: str
    tags: tuple[str, ...]
    time: int | None
    origin: Origin = NOBODY


def parse(line: bytes) -> MetricLine | EventLine | CheckLine:
    """Take one line apart.

    Raises:
        MalformedError: it is not DogStatsD.
    """
    if line.startswith(b"_e{"):
        return _event(line)
    return _service_check(line) if line.startswith(b"_sc|") else _metric(line)


def numbers(field: bytes) -> list[float]:
    """The numbers of a metric's value; empty ones between two colons are left out.

    Raises:
        MalformedError: there is none, or one of them is not finite or no number.
    """
    found = [one for one in field.split(b":") if one]
    if not found:
        raise MalformedError("it has no value")
    if not all(map(_NUMBER.fullmatch, found)):
        raise MalformedError("its value is no number")
    values = list(map(float, found))
    if any(value - value for value in values):  # infinite minus infinite is no number, and true
        raise MalformedError("its value is beyond all numbers")
    return values


# Metrics


def _metric(line: bytes) -> MetricLine:
    head, bar, rest = line.partition(b"|")
    if not bar:
        raise MalformedError("it has no type")
    name, _, values = head.partition(b":")
    if not name or not values:
        raise MalformedError("it has no name and value")
    if not (clean := _clean(name)) or len(name) > _LONGEST_NAME:
        raise MalformedError("its name is blank or too long")
    if len(rest) > _LONGEST_TAIL:
        raise MalformedError("its tags are too long")
    letter, *fields = rest.split(b"|")
    kind = KINDS.get(letter)
    if kind is None:
        raise MalformedError("its type is none of c, g, h, ms, d, s")
    rate, time, tags, common = 1.0, None, b"", _Common()
    for field in fields:
        if field.startswith(b"#"):
            tags = field[1:]
        elif field.startswith(b"@"):
            rate = _rate(field[1:])
        elif field.startswith(b"T"):
            time = _metric_time(field[1:])
        else:
            common.take(field)
    if kind is not Kind.SET:
        numbers(values)
    kept, origin = common.conclude(tags)
    return MetricLine(clean, kind, values, rate, kept, time, origin)


def _rate(field: bytes) -> float:
    rate = float(field) if _NUMBER.fullmatch(field) else 0.0
    if not _LEAST_RATE <= rate <= 1:
        raise MalformedError("its sample rate is not between 0 and 1")
    return rate


def _metric_time(field: bytes) -> int:
    if not _WHOLE.fullmatch(field) or not int(field):
        raise MalformedError("its timestamp is no number of seconds")
    return int(field)


# Events and service checks


def _event(line: bytes) -> EventLine:
    """`_e{<length of title>,<length of text>}:<title>|<text>` and fields; lengths are in bytes, newlines `\\n`."""
    header = _HEADER.match(line)
    if header is None:
        raise MalformedError("its event header is not _e{title length,text length}:")
    middle = header.end() + int(header[1])
    end = middle + 1 + int(header[2])
    if not int(header[1]):
        raise MalformedError("its event has no title")
    if end > len(line) or line[middle : middle + 1] != b"|" or line[end : end + 1] not in (b"", b"|"):
        raise MalformedError("its event is not as long as it says")
    title, text = line[header.end() : middle], line[middle + 1 : end]
    known = {b"d:": b"", b"k:": b"", b"t:": b"", b"h:": b"", b"p:": b"", b"s:": b""}
    tags, common = _fields(line[end + 1 :].split(b"|"), known)
    more = [f"{key}:{_text(known[field])}" for key, field in (("host", b"h:"), ("source_type", b"s:")) if known[field]]
    if known[b"p:"] == b"low":
        more.append("priority:low")
    kept, origin = common.conclude(tags, more)
    alert_type = _text(known[b"t:"])
    return EventLine(
        _unescaped(title),
        _unescaped(text),
        alert_type if alert_type in _ALERT_TYPES else "info",
        _text(known[b"k:"]),
        kept,
        _time(known[b"d:"]),
        origin,
    )


def _service_check(line: bytes) -> CheckLine:
    """`_sc|<name>|<status>` and fields, of which the message is the last."""
    fields = line.split(b"|")
    if len(fields) < 3 or not _clean(fields[1]):
        raise MalformedError("its service check has no name and status")
    status = _STATUSES.get(fields[2])
    if status is None:
        raise MalformedError("its service check's status is none of 0, 1, 2, 3")
    known = {b"d:": b"", b"h:": b"", b"m:": b""}
    tags, common = _fields(fields[3:], known)
    kept, origin = common.conclude(tags, [f"host:{_text(known[b'h:'])}"] if known[b"h:"] else ())
    message = _unescaped(known[b"m:"]).replace("m\\:", "m:")
    return CheckLine(_clean(fields[1]), status, message, kept, _time(known[b"d:"]), origin)


def _fields(fields: list[bytes], known: dict[bytes, bytes]) -> tuple[bytes, _Common]:
    """Fill `known` in from the optional fields; returns the tags and what all kinds of lines may have."""
    tags, common = b"", _Common()
    for field in fields:
        if field.startswith(b"#"):
            tags = field[1:]
        elif field[:2] in known:
            known[field[:2]] = field[2:]
        else:
            common.take(field)
    return tags, common


def _time(field: bytes) -> int | None:
    return int(field) if _WHOLE.fullmatch(field) and int(field) else None


# What all kinds of lines have


class _Common:
    """Collects the fields about the origin: `c:` (1.2, 1.4), `e:` (1.5), `card:` (1.6). Others mean nothing."""

    __slots__ = ("_cardinality", "_container", "_external")

    def __init__(self) -> None:
        self._container = self._external = self._cardinality = b""

    def take(self, field: bytes) -> None:
        if field.startswith(b"c:"):
            self._container = field[2:]
        elif field.startswith(b"e:"):
            self._external = field[2:]
        elif field.startswith(b"card:"):
            self._cardinality = field[5:]

    def conclude(self, tags: bytes, more: list[str] | tuple[str, ...] = ()) -> tuple[tuple[str, ...], Origin]:
        """The tags without those that Datadog's clients mean for the agent alone, and the origin."""
        container, external = _local(_text(self._container)), _pairs(_text(self._external))
        pod, cardinality, kept = external.get("pu", ""), _text(self._cardinality), set(more)
        for tag in filter(None, (one.strip() for one in _text(tags).split(","))):
            if tag.startswith(_ENTITY):
                pod = pod or tag.removeprefix(_ENTITY).removeprefix("none")
            elif tag.startswith(_CARDINALITY):
                cardinality = cardinality or tag.removeprefix(_CARDINALITY)
            elif not tag.startswith(_JMX):
                kept.add(tag)
        return tuple(sorted(kept)), Origin(container, pod, external.get("cn", ""), cardinality)


def _local(text: str) -> str:
    """`ci-<id>`, `cid-<id>`, `in-<inode>`, several of them with commas, or (1.2) the bare container id."""
    pairs = _pairs(text)
    found = pairs.get("ci") or pairs.get("cid")
    return found or (f"in-{pairs['in']}" if "in" in pairs else "" if pairs else text)


def _pairs(text: str) -> dict[str, str]:
    """`it-false,cn-web,pu-0f…`; values may have hyphens."""
    pairs = (part.partition("-") for part in text.split(","))
    return {key: value for key, _, value in pairs if key in ("ci", "cid", "in", "it", "cn", "pu") and value}


def _text(field: bytes) -> str:
    return _CONTROL.sub("_", field.decode("utf-8", "replace"))


def _clean(name: bytes) -> str:
    return _text(name).strip()


def _unescaped(field: bytes) -> str:
    return field.decode("utf-8", "replace").replace("\\n", "\n")
