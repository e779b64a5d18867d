"""The check itself: one pipeline a run, under a deadline."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from vedette import Check, CheckError, Diagnosis, Emit, Estimate, Kind, Metric
from vedette.kit import given
from vedette_checks.redis.cluster import ClusterWatch
from vedette_checks.redis.config import CounterConfig, RedisConfig
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Advisor
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.names import METRICS, TAGS
from vedette_checks.redis.nodes import Node, Single, Watch
from vedette_checks.redis.sentinel import SentinelWatch
from vedette_checks.redis.topology import CLUSTER_METRICS, CLUSTER_STATUSES, SENTINEL_METRICS, SENTINEL_STATUSES


class Redis(Check[RedisConfig]):
    """Watches a Redis or Valkey server, a master behind sentinels, or a whole cluster."""

    name = "redis"
    metrics = (*METRICS, *SENTINEL_METRICS, *CLUSTER_METRICS)
    statuses = (
        "redis.can_connect",
        "redis.replication.master_link_status",
        "redis.round_trip",
        "redis.reads",
        *SENTINEL_STATUSES,
        *CLUSTER_STATUSES,
    )

    @classmethod
    def declare(cls, config: RedisConfig) -> Iterable[Metric]:
        """The fixed metrics and those of `counters`."""
        tags = TAGS if config.cluster is None else ()
        return [*cls.metrics, *{counter.metric: _declared(counter, tags) for counter in config.counters}.values()]

    @classmethod
    def lint(cls, config: RedisConfig) -> Iterable[str]:
        """Warns of a certificate that nobody checks."""
        if config.address.tls and not config.verify:
            yield "verify is off: whoever answers at this address gets the password"

    @classmethod
    def reaches(cls, config: RedisConfig) -> Iterable[str]:
        """The server alone: what sentinels and cluster nodes name could be anywhere."""
        if config.sentinel is not None or config.cluster is not None:
            raise ValueError("only the operator may use `sentinel` and `cluster`, whose servers name other servers")
        if limits := given(config, ("tag_limit", "budget", "prefixes", "limit")):
            raise ValueError(f"only the operator may set {', '.join(limits)}")
        return (config.address.path or config.address.host,)

    def __init__(self, config: RedisConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        zone = ZoneInfo(config.timezone)
        patience = config.deadline * 0.9  # leaves the run time to say what is wrong
        self._watch = _watch(
            config,
            patience,
            [KeyLength(key) for key in config.keys],
            [Counter(counter, config.tags, zone) for counter in config.counters],
            self.state,
        )
        self._asked = 0

    def _now(self) -> float:
        """Unix seconds; decides the keys and windows of counters."""
        return time.time()

    async def open(self) -> None:
        """Load the certificates; the connection is made by the first run, which can say why it fails.

        Raises:
            CheckError: a certificate file cannot be used.
        """
        try:
            self._watch.open()
        except (OSError, ssl.SSLError) as error:
            why = error.strerror or type(error).__name__
            raise CheckError(
                f"the certificate files cannot be used: {why}", hint="check ca_file, cert_file and key_file"
            ) from error

    async def close(self) -> None:
        """Drop the connections."""
        self._watch.close()

    async def run(self, emit: Emit) -> None:
        """One collection, from one server, a master behind sentinels or all nodes of a cluster.

        Raises:
            CheckError: there is no talking to the server (of a cluster: to any node), or it refuses service.
        """
        before = self._commands()
        await self._watch.run(emit, self._now())
        self._asked = self._commands() - before

    async def estimate(self) -> Iterable[Estimate]:
        """Commands of the last run, to all servers together."""
        lines = [Estimate("commands per run", self._asked, "commands")]
        if (servers := sum(1 for _ in self._watch.nodes())) > 1:
            lines.append(Estimate("servers asked", servers, "servers"))
        return lines

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The way to each server, the login, and the rights that the configured parts need."""
        from vedette_checks.redis.doctor import diagnose

        await diagnose(self.config, diagnosis)

    def _commands(self) -> int:
        """Commands sent so far, to all servers together."""
        return sum(node.asked for node in self._watch.nodes())


def _watch(
    config: RedisConfig,
    patience: float,
    keys: Sequence[KeyLength],
    counters: Sequence[Counter],
    state: Mapping[str, Any],
) -> Watch:
    if config.sentinel is not None:
        return SentinelWatch(config, config.sentinel, patience, keys, counters, state)
    if config.cluster is not None:
        return ClusterWatch(config, config.cluster, patience, keys, counters, state)
    node = Node(config, Advisor(config.address, patience), keys=keys, counters=counters, state=state)
    return Single(node, round_trip=config.round_trip)


def _declared(counter: CounterConfig, tags: tuple[str, ...]) -> Metric:
    return Metric(
        counter.metric,
        Kind(counter.kind),
        counter.unit,
        f"Counter of the application, read with {counter.read.upper()}.",
        (*tags, *(tag.partition(":")[0] for tag in counter.tags)),
    )
