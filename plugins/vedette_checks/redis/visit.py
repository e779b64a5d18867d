"""One run: sends the pipeline, gives each part its replies, and sums up what was found wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from vedette import CheckError, Emit, Status
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import READ_ONLY, Advisor, Finding
from vedette_checks.redis.info import emit_commands, emit_fields, emit_keyspace, emit_replication, parse_info
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.session import Command, Replies, Session

_ROUND_TRIP_TTL = 60  # seconds: what a run that was cut off leaves behind is gone by then


@dataclass(frozen=True, slots=True)
class Plan:
    """What the runs of an instance have in common.

    Attributes:
        advisor: explains errors; knows the address.
        keys: keys whose length to report.
        counters: numbers to read.
        command_stats: whether to ask for INFO COMMANDSTATS.
    """

    advisor: Advisor
    keys: tuple[KeyLength, ...]
    counters: tuple[Counter, ...]
    command_stats: bool

    def commands(self, now: float) -> list[Command]:
        """The run's pipeline. INFO comes first: it is what a server answers when it answers nothing else."""
        commands: list[Command] = [("INFO",), ("PING",)]
        if self.command_stats:
            commands.append(("INFO", "commandstats"))
        for key in self.keys:
            commands.extend(key.commands())
        for counter in self.counters:
            commands.extend(counter.commands(now))
        return commands


class Visit:
    """One run: the replies as they come, the tags that they decide, and what was found wrong."""

    def __init__(self, plan: Plan, session: Session, emit: Emit) -> None:
        self._plan = plan
        self._session = session
        self._emit = emit
        self._place = plan.advisor.address.tags
        self._tags = self._place
        self._info: dict[str, str] = {}
        self._findings: list[Finding] = []
        self._unfit: Finding | None = None

    async def read(self, now: float) -> None:
        """The run's pipeline; `now` in Unix seconds.

        Raises:
            redis.exceptions.RedisError, OSError: the connection failed.
        """
        plan, replies = self._plan, Replies()
        try:
            await self._session.exchange(plan.commands(now), replies)
        finally:
            if replies.values:  # while it loads its dataset a server answers INFO and refuses the rest
                self._take_info(replies)
        self._take_ping(replies)
        answers = iter(replies.values[2:])
        if plan.command_stats:
            self._take_commands(next(answers))
        await self._take_keys(answers)
        for counter in plan.counters:
            self._note(counter.take(answers, self._emit, self._tags, plan.advisor))

    def _take_info(self, replies: Replies) -> None:
        reply = replies.values[0]
        if isinstance(reply, Exception):
            self._findings.append(self._plan.advisor.refusal(reply, "info", ""))
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
        found = self._plan.advisor.refusal(reply, "ping", "")
        if found.mild:
            self._findings.append(found)
        else:
            self._unfit = found

    def _take_commands(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._findings.append(self._plan.advisor.refusal(reply, "info", ""))
        else:
            emit_commands(self._emit, reply, self._tags)

    async def _take_keys(self, answers: Iterator[Any]) -> None:
        advisor = self._plan.advisor
        tags = (*self._tags, f"redis_db:db{advisor.address.db}")
        late: list[tuple[KeyLength, Command]] = []
        for key in self._plan.keys:
            outcome = key.take(answers, self._emit, tags, advisor)
            if isinstance(outcome, tuple):
                late.append((key, outcome))
            else:
                self._note(outcome)
        if late:
            replies = Replies()
            await self._session.exchange([command for _, command in late], replies)
            for (key, _), reply in zip(late, replies.values, strict=True):
                self._note(key.take_length(reply, self._emit, tags, advisor))

    def _note(self, finding: Finding | None) -> None:
        if finding is not None:
            self._findings.append(finding)

    async def round_trip(self) -> None:
        """Set, get and delete a key of its own, in one exchange, timed apart from the pipeline."""
        if self._unfit is not None:
            return
        if self._info.get("role") == "slave" and self._info.get("slave_read_only") == "1":
            # asking all the same would count as an error on the server at every run
            self._emit.status("redis.round_trip", Status.WARNING, f"round trip: {READ_ONLY}", self._place)
            return
        key, value = f"vedette:round_trip:{token_hex(8)}", token_hex(8)
        replies = Replies()
        await self._session.exchange([("SET", key, value, "EX", _ROUND_TRIP_TTL), ("GET", key), ("DEL", key)], replies)
        self._judge_round_trip(replies, value)

    def _judge_round_trip(self, replies: Replies, value: str) -> None:
        for command, reply in zip(("set", "get", "del"), replies.values, strict=True):
            if isinstance(reply, Exception):
                found = self._plan.advisor.refusal(reply, command, "vedette:*")
                status = Status.WARNING if found.mild else Status.CRITICAL
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
