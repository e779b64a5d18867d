"""Service checks, events and logs as JSON items."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.sinks.datadog.lanes import LANES, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette import Batch

_LONGEST_MESSAGE = 500
_LONGEST_TITLE = 500
_LONGEST_TEXT = 4_000
_LONGEST_KEY = 100
LONGEST_TAG = 200
_LONGEST_LOG = 1_000_000
"""Bytes; Datadog cuts a log at 1 MB, and then its JSON is broken."""
_LEAST_ROOM = 1_000
_ALERT_TYPES = frozenset({"error", "warning", "info", "success"})
_LOGS = next(lane for lane in LANES if lane.is_logs)
_OWN_TIME = "logged_at"
"""The attribute for a log's own time where Datadog would not take the log with it."""
_LOG_FIELDS = ("message", "status", "ddtags", "timestamp")

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


def encode_words(batch: Batch) -> Iterator[tuple[Kind, bytes, float]]:
    """Everything of a batch that is no sample: kind of record, item, Unix seconds."""
    for status in batch.statuses:
        moment = int(batch.time if status.time is None else status.time)
        item: dict[str, Any] = {
            "check": text(status.name),
            "status": int(status.status),
            "host_name": host_of(status.tags, batch.host),
            "timestamp": moment,
            "message": text(status.message)[:_LONGEST_MESSAGE],
            "tags": _tags(status.tags),
        }
        yield Kind.STATUS, _encode(item), moment
    for event in batch.events:
        moment = int(batch.time if event.time is None else event.time)
        item = {
            "title": text(event.title)[:_LONGEST_TITLE],
            "text": text(event.text)[:_LONGEST_TEXT],
            "date_happened": moment,
            "alert_type": event.alert_type if event.alert_type in _ALERT_TYPES else "info",
            "tags": _tags(event.tags),
        }
        if host := host_of(event.tags, batch.host):
            item["host"] = host
        if event.aggregation_key:
            item["aggregation_key"] = text(event.aggregation_key)[:_LONGEST_KEY]
        yield Kind.EVENT, _encode(item), moment
    for log in batch.logs:
        time = batch.time if log.time is None else log.time
        own: dict[str, Any] = {}
        if not batch.time - _LOGS.oldest < time < batch.time + _LOGS.ahead:
            own, time = {_OWN_TIME: _written(time)}, batch.time
        yield Kind.LOG, _log(log, time, batch, own), time


def host_of(tags: tuple[str, ...], otherwise: str) -> str:
    """The host that something is of: the one that its tags name goes before the agent's."""
    return next((text(tag[5:]) for tag in tags if tag.startswith("host:") and len(tag) > 5), text(otherwise))


def text(value: str) -> str:
    """The text without lone surrogates, which JSON cannot hold."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _tags(tags: tuple[str, ...]) -> list[str]:
    return [text(tag)[:LONGEST_TAG] for tag in tags if not tag.startswith("host:")]


def _written(time: float) -> str | float:
    try:
        return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # of a year that no calendar has
        return time


def _log(log: Any, time: float, batch: Batch, more: dict[str, Any]) -> bytes:
    """One log; fields of its own that are named like Datadog's or `more` are put below `attributes`.

    Source: Datadog, API reference, "Send logs".
    """
    tags = _tags(log.tags)
    attributes = dict(log.attributes)
    service = _word(attributes, "service") or _value_of(tags, "service")
    item: dict[str, Any] = {
        "message": text(log.message),
        "status": log.level,
        "ddtags": ",".join(tag.replace(",", "_") for tag in tags),
        "ddsource": _word(attributes, "source") or batch.check,
        "timestamp": int(time * 1000),
        **more,
    }
    if service:
        item["service"] = service
    if host := _word(attributes, "hostname") or host_of(log.tags, batch.host):
        item["hostname"] = host
    taken = {name: attributes.pop(name) for name in (*_LOG_FIELDS, "ddsource", *more) if name in attributes}
    if taken:
        attributes["attributes"] = {**taken, **_mapping(attributes.get("attributes"))}
    whole = _encoded({**attributes, **item})
    return whole if len(whole) <= _LONGEST_LOG else _cut(attributes, item)


def _word(attributes: dict[str, Any], name: str) -> str:
    """Take an attribute that is a plain value; objects and lists stay where they are, below `attributes`."""
    if isinstance(value := attributes.get(name), dict | list):
        del attributes[name]
        attributes["attributes"] = {**_mapping(attributes.get("attributes")), name: value}
        return ""
    return str(attributes.pop(name, "") or "")


def _encoded(item: dict[str, Any]) -> bytes:
    try:
        return _encode(item)
    except UnicodeEncodeError:
        return _encode(_clean(item))


def _cut(attributes: dict[str, Any], item: dict[str, Any]) -> bytes:
    """A log that fits: its message shortened, and where that is not enough without its own fields and tags."""
    bare = {**item, "ddtags": ""}
    for fields in ({**attributes, **item}, item, bare):
        short = {**fields, "message": "", "truncated": True}
        room = _LONGEST_LOG - len(_encoded(short))
        if room > _LEAST_ROOM:
            return _encoded({**short, "message": _prefix(item["message"], room)})
    return _encoded({**short, "hostname": "", "service": ""})


def _prefix(message: str, room: int) -> str:
    """As much of a message as takes so many bytes as JSON."""
    low, high = 0, len(message)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_encode(message[:middle])) - 2 <= room else (low, middle - 1)
    return message[:low]


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(str(key)): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list | tuple) else value


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _value_of(tags: list[str], key: str) -> str:
    return next((tag.partition(":")[2] for tag in tags if tag.startswith(f"{key}:")), "")
