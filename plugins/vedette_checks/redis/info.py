"""Reads the reply to INFO and says what it says.

The client's own parser of INFO costs four times this one, most of it on fields that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from vedette import Emit, Status
from vedette.kit import Totals
from vedette_checks.redis.names import GAUGES, RATES
from vedette_checks.redis.options import OTHER

_LINK = "redis.replication.master_link_status"


def parse_info(reply: bytes) -> dict[str, str]:
    """The fields of an INFO reply by name, sections left out; of a repeated field the last one."""
    fields = {}
    for line in reply.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value
    return fields


def number(text: str) -> float | None:
    """The number in a field, or None if it holds none or a negative one, which in INFO means never or unknown."""
    if text.isdecimal():  # nearly all of them
        return int(text)
    try:
        value = float(text) if "." in text else int(text)
    except ValueError:
        return None
    return value if value >= 0 and isfinite(value) else None


def pairs(text: str) -> dict[str, str]:
    """The values in a field such as `keys=2,expires=1`."""
    return {key: value for key, _, value in (part.partition("=") for part in text.split(","))}


def emit_fields(emit: Emit, info: dict[str, str], tags: tuple[str, ...], totals: Totals) -> None:
    """Emit the fields that have a metric of their own; `totals` keeps them level where another server counts on."""
    find, gauge, rate, level = info.get, emit.gauge, emit.rate, totals.level
    totals.counted_by(find("run_id"))
    for field, metric in GAUGES:
        text = find(field)
        if text is not None and (value := number(text)) is not None:
            gauge(metric, value, tags)
    for field, metric in RATES:
        text = find(field)
        if text is not None and (value := number(text)) is not None:
            rate(metric, level(metric, value), tags)


def _rows(info: dict[str, str], prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, values) of the fields that are called prefix + number."""
    length = len(prefix)
    for field in [name for name in info if name[:length] == prefix]:  # nearly always none: the scan is what costs
        if field[length:].isdecimal():
            yield field, pairs(info[field])


def emit_keyspace(emit: Emit, info: dict[str, str], tags: tuple[str, ...], limit: int) -> None:
    """Emit how many keys each database has, and how many of them expire; beyond `limit` databases, of all others."""
    rest = [0.0, 0.0]
    for place, (database, values) in enumerate(_rows(info, "db")):
        keys, expires = number(values.get("keys", "")), number(values.get("expires", ""))
        if keys is None or expires is None:
            continue
        if place < limit:
            _emit_database(emit, keys, expires, (*tags, f"redis_db:{database}"))
        else:
            rest[0] += keys
            rest[1] += expires
    if rest[0]:
        _emit_database(emit, rest[0], rest[1], (*tags, f"redis_db:{OTHER}"))


def _emit_database(emit: Emit, keys: float, expires: float, here: tuple[str, ...]) -> None:
    emit.gauge("redis.keys", keys, here)
    emit.gauge("redis.expires", expires, here)
    emit.gauge("redis.persist", keys - expires, here)
    if keys > 0:
        emit.gauge("redis.expires.percent", 100 * expires / keys, here)
        emit.gauge("redis.persist.percent", 100 * (keys - expires) / keys, here)


def emit_replication(emit: Emit, info: dict[str, str], place: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """Emit a primary's replicas, or a replica's link to its primary.

    Args:
        emit: where to.
        info: the fields of INFO.
        place: tags of the service check: host and port.
        tags: tags of the metrics: also the role.
    """
    offset = number(info.get("master_repl_offset", ""))
    replicas = _rows(info, "slave") if info.get("connected_slaves") != "0" else ()
    for replica, values in replicas:
        acknowledged = number(values.get("offset", ""))
        if offset is None or acknowledged is None or acknowledged > offset:
            continue
        there = (f"slave_ip:{values.get('ip', '')}", f"slave_port:{values.get('port', '')}", f"slave_id:{replica[5:]}")
        emit.gauge("redis.replication.delay", offset - acknowledged, (*tags, *there))
    if info.get("role") == "slave" and "master_link_status" in info:
        _emit_link(emit, info, place, tags)


def _emit_link(emit: Emit, info: dict[str, str], place: tuple[str, ...], tags: tuple[str, ...]) -> None:
    metric = "redis.replication.master_link_down_since_seconds"
    if info["master_link_status"] == "up":
        emit.status(_LINK, Status.OK, tags=place)
        emit.gauge(metric, 0, tags)
        return
    primary = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
    emit.status(_LINK, Status.CRITICAL, f"the replica has lost its primary {primary}", place)
    down, uptime = (
        number(info.get(metric.removeprefix("redis.replication."), "")),
        number(info.get("uptime_in_seconds", "")),
    )
    if down is not None and (uptime is None or down <= uptime):  # never linked: old servers count from 1970
        emit.gauge(metric, down, tags)
