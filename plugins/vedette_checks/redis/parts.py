"""What a configuration asks of each server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vedette_checks.redis.acl import AclLog
from vedette_checks.redis.clients import Clients
from vedette_checks.redis.commands import CommandStats, Percentiles
from vedette_checks.redis.config import RedisConfig
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Advisor
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.latency import LatencyEvents
from vedette_checks.redis.part import Part
from vedette_checks.redis.scan import Scan
from vedette_checks.redis.slowlog import Slowlog
from vedette_checks.redis.streams import Streams
from vedette_checks.redis.visit import Plan


def plan_of(
    config: RedisConfig,
    advisor: Advisor,
    keys: Sequence[KeyLength],
    counters: Sequence[Counter],
    place: tuple[str, ...],
    state: Mapping[str, Any],
    *,
    scope: str = "",
    streams: Sequence[str] | None = None,
) -> Plan:
    """The plan of one server's runs.

    Args:
        config: the instance's options.
        advisor: explains errors; knows the address.
        keys: keys whose length to report.
        counters: numbers to read.
        place: tags of the statuses.
        state: what the instance committed.
        scope: tells the servers of one instance apart in what it commits.
        streams: the streams on this server, if not all that are configured.
    """
    scan = Scan(config.scan) if config.scan is not None else None
    parts = parts_of(config, state, scope=scope, streams=streams)
    return Plan(advisor, tuple(keys), tuple(counters), tuple(parts), place, scan, config.tag_limit)


def parts_of(
    config: RedisConfig, state: Mapping[str, Any], *, scope: str = "", streams: Sequence[str] | None = None
) -> Iterator[Part]:
    """The optional parts; they remember things from run to run, so that each server needs its own. See `plan_of`."""
    limit, suffix = config.tag_limit, f" {scope}" if scope else ""
    if config.command_stats:
        yield CommandStats(limit)
    if config.latency_percentiles:
        yield Percentiles(limit)
    if config.latency_events:
        yield LatencyEvents(limit)
    if config.clients:
        yield Clients(limit)
    if config.slowlog is not None:
        yield Slowlog(config.slowlog, limit, state, f"slowlog{suffix}")
    if config.acl_log:
        yield AclLog(limit, state, f"acl_log{suffix}")
    if names := config.streams if streams is None else streams:
        yield Streams(names, limit)
