"""One run: sends the pipeline, gives each part its replies, and sums up what was found wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from time import monotonic
from typing import Any

from vedette import CheckError, Emit, Status
from vedette.kit import Totals
from vedette_checks.redis.counters import Counter
from vedette_checks.redis.findings import READ_ONLY, Advisor, Finding
from vedette_checks.redis.info import emit_fields, emit_keyspace, emit_replication, number, parse_info
from vedette_checks.redis.keys import KeyLength
from vedette_checks.redis.part import Part, Scene
from vedette_checks.redis.scan import Scan
from vedette_checks.redis.session import Command, Replies, Session

_ROUND_TRIP_TTL = 60  # seconds: what a run that was cut off leaves behind is gone by then


@dataclass(frozen=True, slots=True)
class Plan:
    """What the runs of an instance have in common.

    Attributes:
        advisor: explains errors; knows the address.
        keys: keys whose length to report.
        counters: numbers to read.
        parts: what else is asked for.
        place: tags of the statuses; they stay while the server behind a name changes.
        scan: the walk over the keys, if one is asked for.
        most_databases: how many databases to report one by one.
        totals: keeps totals level while the server behind an address changes.
    """

    advisor: Advisor
    keys: tuple[KeyLength, ...]
    counters: tuple[Counter, ...]
    parts: tuple[Part, ...]
    place: tuple[str, ...]
    scan: Scan | None = None
    most_databases: int = 500
    totals: Totals = field(default_factory=Totals)

    def commands(self, now: float) -> list[Command]:
        """The run's pipeline. INFO comes first: it is what a server answers when it answers nothing else."""
        commands: list[Command] = [("INFO",), ("PING",)]
        for part in self.parts:
            commands.extend(part.commands())
        for key in self.keys:
            commands.extend(key.commands())
        for counter in self.counters:
            commands.extend(counter.commands(now))
        return commands


_Late = tuple[list[Command], Callable[[Iterator[Any]], None]]
"""Commands of the second exchange, and who takes their replies."""


class Visit:
    """One run: the replies as they come, the tags that they decide, and what was found wrong."""

    def __init__(self, plan: Plan, session: Session, emit: Emit) -> None:
        self._plan = plan
        self._session = session
        self._emit = emit
        self._place = plan.place
        self._tags = plan.advisor.address.tags
        self._info: dict[str, str] = {}
        self._findings: list[Finding] = []
        self._unfit: Finding | None = None
        self._scene: Scene | None = None
        self._scan_until = monotonic() + plan.advisor.patience / 2

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
        late: list[_Late] = []
        if plan.parts or plan.scan is not None:
            late += self._take_parts(answers, now)
        if plan.keys:
            late += self._take_keys(answers)
        for counter in plan.counters:
            self._note(counter.take(answers, self._emit, self._tags, plan.advisor))
        if late:
            await self._take_late(late)
        if plan.scan is not None and self._scene is not None and self._unfit is None:
            await plan.scan.walk(self._session, self._scene, self._scan_until)

    def _take_info(self, replies: Replies) -> None:
        reply = replies.values[0]
        if isinstance(reply, Exception):
            self._findings.append(self._plan.advisor.refusal(reply, "info", ""))
            return
        self._info = info = parse_info(reply)
        if role := info.get("role"):
            self._tags = (*self._tags, f"redis_role:{role}")
        emit, tags = self._emit, self._tags
        emit.gauge("redis.info.latency_ms", replies.times[0] * 1000, tags)
        emit_fields(emit, info, tags, self._plan.totals)
        emit_keyspace(emit, info, tags, self._plan.most_databases)
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

    def _take_parts(self, answers: Iterator[Any], now: float) -> list[_Late]:
        plan = self._plan
        clock = number(self._info.get("server_time_usec", ""))
        moment = now if clock is None else clock / 1e6
        self._scene = scene = Scene(self._emit, plan.advisor, self._tags, self._info, moment, self._findings)
        asked = ((list(part.take(answers, scene)), partial(part.take_late, scene=scene)) for part in plan.parts)
        return [(more, take) for more, take in asked if more]

    def _take_keys(self, answers: Iterator[Any]) -> list[_Late]:
        advisor = self._plan.advisor
        tags = (*self._tags, f"redis_db:db{advisor.address.db}")
        late: list[_Late] = []
        for key in self._plan.keys:
            outcome = key.take(answers, self._emit, tags, advisor)
            if isinstance(outcome, tuple):
                late.append(([outcome], partial(self._take_length, key, tags)))
            else:
                self._note(outcome)
        return late

    def _take_length(self, key: KeyLength, tags: tuple[str, ...], answers: Iterator[Any]) -> None:
        self._note(key.take_length(next(answers), self._emit, tags, self._plan.advisor))

    async def _take_late(self, late: list[_Late]) -> None:
        """A second exchange, for what the first one's replies made necessary."""
        replies = Replies()
        await self._session.exchange([command for commands, _ in late for command in commands], replies)
        answers = iter(replies.values)
        for _, take in late:
            take(answers)

    def _note(self, finding: Finding | None) -> None:
        if finding is not None:
            self._findings.append(finding)

    async def round_trip(self, slot: str = "") -> None:
        """Set, get and delete a key of its own, in one exchange, timed apart from the pipeline.

        Args:
            slot: on a node of a cluster: a hash tag, with its braces, whose slot the node serves.
        """
        if self._unfit is not None:
            return
        if self._info.get("role") == "slave" and self._info.get("slave_read_only") == "1":
            # asking all the same would count as an error on the server at every run
            self._emit.status("redis.round_trip", Status.WARNING, f"round trip: {READ_ONLY}", self._place)
            return
        key, value = f"vedette:round_trip:{slot}{token_hex(8)}", token_hex(8)
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
        if self._scene is not None:
            for part in self._plan.parts:
                part.settle(self._scene)
        if not self._findings:
            self._emit.status("redis.reads", Status.OK, tags=self._place)
            return
        message = "; ".join(dict.fromkeys(map(str, self._findings)))  # several parts may lack the same right
        self._emit.status("redis.reads", Status.WARNING, message, self._place)
