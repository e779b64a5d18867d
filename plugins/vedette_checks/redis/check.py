"""The check itself: one pipeline a run, then what its replies say."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Iterator
from secrets import token_hex
from typing import Any
from zoneinfo import ZoneInfo

from redis.exceptions import RedisError

from vedette import Check, CheckError, Emit, Kind, Metric, Status
from vedette_checks.redis.config import RedisConfig
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import Advisor, Finding
from vedette_checks.redis.info import emit_commands, emit_fields, emit_keyspace, emit_replication, parse_info
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.names import METRICS
from vedette_checks.redis.session import Command, Replies, Session

_ROUND_TRIP_TTL = 60  # seconds: what a run that was cut off leaves behind is gone by then


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
        tags = ("redis_host", "redis_port", "redis_role")
        counters = {
            counter.metric: Metric(
                counter.metric,
                Kind(counter.kind),
                counter.unit,
                f"Counter of the application, read with {counter.read.upper()}.",
                (*tags, *(tag.partition(":")[0] for tag in counter.tags)),
            )
            for counter in config.counters
        }
        return [*(metric for metric in METRICS if metric.name not in counters), *counters.values()]

    @classmethod
    def lint(cls, config: RedisConfig) -> Iterable[str]:
        """Warns of a certificate that nobody checks."""
        if config.address.tls and not config.verify:
            yield "verify is off: whoever answers at this address gets the password"

    def __init__(self, config: RedisConfig, state: Any = None) -> None:
        super().__init__(config, state)
        zone = ZoneInfo(config.timezone)
        self._address = config.address
        self._patience = config.deadline * 0.9  # leaves the run time to say what is wrong
        self._advisor = Advisor(self._address, self._patience)
        self._counters = [Counter(counter, config.tags, zone) for counter in config.counters]
        self._keys = [KeyLength(key) for key in config.keys]
        self._session: Session | None = None

    def _now(self) -> float:
        """Unix seconds; decides the keys and windows of counters."""
        return time.time()

    async def open(self) -> None:
        """Load the certificates; the connection is made by the first run, which can say why it fails."""
        try:
            self._session = Session(self.config)
        except (OSError, ssl.SSLError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
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
        if self._session is None:
            await self.open()
        assert self._session is not None  # noqa: S101 - open() sets it or raises
        visit = _Visit(self, self._session, emit)
        try:
            async with asyncio.timeout(self._patience):
                await visit.read(self._commands(self._now()))
                if self.config.round_trip:
                    await visit.round_trip()
        except (RedisError, OSError, EOFError, UnicodeError) as error:
            connected = self._session.connected
            self._session.close()
            raise visit.failed(self._advisor.failure(error, connected=connected)) from error
        except BaseException:
            self._session.close()
            raise
        visit.conclude()

    def _commands(self, now: float) -> list[Command]:
        commands: list[Command] = [("INFO",), ("PING",)]
        if self.config.command_stats:
            commands.append(("INFO", "commandstats"))
        for key in self._keys:
            commands.extend(key.commands())
        for counter in self._counters:
            commands.extend(counter.commands(now))
        return commands


class _Visit:
    """One run: the replies as they come, the tags that they decide, and what was found wrong."""

    def __init__(self, check: Redis, session: Session, emit: Emit) -> None:
        self._check = check
        self._session = session
        self._emit = emit
        self._place = check._address.tags
        self._tags = self._place
        self._info: dict[str, str] = {}
        self._findings: list[Finding] = []
        self._unfit: Finding | None = None

    async def read(self, commands: list[Command]) -> None:
        """The run's pipeline."""
        replies = Replies()
        try:
            await self._session.exchange(commands, replies)
        finally:
            if replies.values:  # while it loads its dataset a server answers INFO and refuses the rest
                self._take_info(replies)
        self._take_ping(replies)
        answers = iter(replies.values[2:])
        if self._check.config.command_stats:
            self._take_commands(next(answers))
        await self._take_keys(answers)
        for counter in self._check._counters:
            self._note(counter.take(answers, self._emit, self._tags, self._check._advisor))

    def _take_info(self, replies: Replies) -> None:
        reply = replies.values[0]
        if isinstance(reply, Exception):
            found = self._check._advisor.refusal(reply, "info", "")
            if "protected mode" in found.message:
                self._unfit = found
            self._findings.append(found)
            return
        self._info = info = parse_info(reply)
        if role := info.get("role"):
            self._tags = (*self._place, f"redis_role:{role}")
        emit, tags = self._emit, self._tags
        emit.gauge("redis.info.latency_ms", replies.times[0] * 1000, tags)
        emit_fields(emit, info, tags)
        emit_keyspace(emit, info, tags)
        emit_replication(emit, info, self._place, tags)

    def _take_ping(self, replies: Replies) -> None:
        reply = replies.values[1]
        if not isinstance(reply, Exception):
            self._emit.gauge("redis.ping.latency_ms", replies.times[1] * 1000, self._tags)
            return
        found = self._check._advisor.refusal(reply, "ping", "")
        if found.hint.startswith("ACL"):
            self._findings.append(found)
        else:
            self._unfit = found

    def _take_commands(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._findings.append(self._check._advisor.refusal(reply, "info", ""))
        else:
            emit_commands(self._emit, reply, self._tags)

    async def _take_keys(self, answers: Iterator[Any]) -> None:
        check, tags = self._check, (*self._tags, f"redis_db:db{self._check._address.db}")
        late: list[tuple[KeyLength, Command]] = []
        for key in check._keys:
            outcome = key.take(answers, self._emit, tags, check._advisor)
            if isinstance(outcome, tuple):
                late.append((key, outcome))
            else:
                self._note(outcome)
        if late:
            replies = Replies()
            await self._session.exchange([command for _, command in late], replies)
            for (key, _), reply in zip(late, replies.values, strict=True):
                self._note(key.take_length(reply, self._emit, tags, check._advisor))

    def _note(self, finding: Finding | None) -> None:
        if finding is not None:
            self._findings.append(finding)

    async def round_trip(self) -> None:
        """Set, get and delete a key of its own, in one exchange, timed apart from the pipeline."""
        if self._unfit is not None:
            return
        if self._info.get("role") == "slave" and self._info.get("slave_read_only") == "1":
            # asking all the same would count as an error on the server at every run
            found = Finding("the server is a read-only replica", "set `round_trip: false` there")
            self._emit.status("redis.round_trip", Status.WARNING, str(found), self._place)
            return
        key, value = f"vedette:round_trip:{token_hex(8)}", token_hex(8)
        replies = Replies()
        await self._session.exchange([("SET", key, value, "EX", _ROUND_TRIP_TTL), ("GET", key), ("DEL", key)], replies)
        self._judge_round_trip(replies, value)

    def _judge_round_trip(self, replies: Replies, value: str) -> None:
        for command, reply in zip(("set", "get", "del"), replies.values, strict=True):
            if isinstance(reply, Exception):
                found = self._check._advisor.refusal(reply, command, "vedette:*")
                mild = found.hint.startswith(("ACL", "set `round_trip", "configure"))
                status = Status.WARNING if mild else Status.CRITICAL
                self._emit.status("redis.round_trip", status, f"round trip: {found}", self._place)
                return
        self._emit.gauge("redis.round_trip.latency_ms", replies.times[-1] * 1000, self._tags)
        if replies.values[1:] == [value.encode(), 1]:
            self._emit.status("redis.round_trip", Status.OK, tags=self._place)
        else:
            message = "round trip: a key that was just set was gone or different"
            self._emit.status("redis.round_trip", Status.CRITICAL, message, self._place)

    def failed(self, finding: Finding) -> CheckError:
        """Say that the server cannot be used; returns the error to raise."""
        self._emit.status("redis.can_connect", Status.CRITICAL, str(finding), self._place)
        return finding.error()

    def conclude(self) -> None:
        """Say how the run went as a whole.

        Raises:
            CheckError: the server refuses service.
        """
        if self._unfit is not None:
            raise self.failed(self._unfit)
        self._emit.status("redis.can_connect", Status.OK, tags=self._place)
        status = Status.WARNING if self._findings else Status.OK
        self._emit.status("redis.reads", status, "; ".join(map(str, self._findings)), self._place)
