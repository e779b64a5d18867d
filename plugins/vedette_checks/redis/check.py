"""The check itself: one pipeline a run, under a deadline."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from redis.exceptions import RedisError

from vedette import Check, CheckError, Emit, Kind, Metric
from vedette_checks.redis.config import CounterConfig, RedisConfig
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Advisor
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.names import METRICS, TAGS
from vedette_checks.redis.session import Session
from vedette_checks.redis.visit import Plan, Visit


class Redis(Check[RedisConfig]):
    """Watches one Redis or Valkey server."""

    name = "redis"
    metrics = METRICS
    statuses = (
        "redis.can_connect",
        "redis.replication.master_link_status",
        "redis.round_trip",
        "redis.reads",
    )

    @classmethod
    def declare(cls, config: RedisConfig) -> Iterable[Metric]:
        """The fixed metrics and those of `counters`."""
        return [*METRICS, *{counter.metric: _declared(counter) for counter in config.counters}.values()]

    @classmethod
    def lint(cls, config: RedisConfig) -> Iterable[str]:
        """Warns of a certificate that nobody checks."""
        if config.address.tls and not config.verify:
            yield "verify is off: whoever answers at this address gets the password"

    def __init__(self, config: RedisConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        zone = ZoneInfo(config.timezone)
        patience = config.deadline * 0.9  # leaves the run time to say what is wrong
        self._plan = Plan(
            Advisor(config.address, patience),
            tuple(KeyLength(key) for key in config.keys),
            tuple(Counter(counter, config.tags, zone) for counter in config.counters),
            config.command_stats,
        )
        self._session: Session | None = None

    def _now(self) -> float:
        """Unix seconds; decides the keys and windows of counters."""
        return time.time()

    async def open(self) -> None:
        """Load the certificates; the connection is made by the first run, which can say why it fails.

        Raises:
            CheckError: a certificate file cannot be used.
        """
        try:
            self._session = Session(self.config)
        except (OSError, ssl.SSLError) as error:
            why = error.strerror or type(error).__name__
            raise CheckError(
                f"the certificate files cannot be used: {why}", hint="check ca_file, cert_file and key_file"
            ) from error

    async def close(self) -> None:
        """Drop the connection."""
        if self._session is not None:
            self._session.close()

    async def run(self, emit: Emit) -> None:
        """One pipeline with everything to read, then the round trip.

        Raises:
            CheckError: there is no talking to the server, or it refuses service.
        """
        session = self._session
        if session is None:
            raise RuntimeError("open() comes before run()")
        visit, advisor = Visit(self._plan, session, emit), self._plan.advisor
        try:
            async with asyncio.timeout(advisor.patience):
                await visit.read(self._now())
                if self.config.round_trip:
                    await visit.round_trip()
        except (RedisError, OSError, EOFError) as error:
            finding = advisor.failure(error, greeted=session.greeted)
            session.close()
            raise visit.failed(finding) from error
        except BaseException:
            session.close()
            raise
        visit.conclude()


def _declared(counter: CounterConfig) -> Metric:
    return Metric(
        counter.metric,
        Kind(counter.kind),
        counter.unit,
        f"Counter of the application, read with {counter.read.upper()}.",
        (*TAGS, *(tag.partition(":")[0] for tag in counter.tags)),
    )
