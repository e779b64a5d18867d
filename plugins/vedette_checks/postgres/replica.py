"""`replica:`, a primary and its replica side by side: both paths timed, and how far the replica is behind."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vedette import CheckError, Duration, Emit, Kind, Metric, Password, Secret, Status
from vedette_checks.postgres.database import BusyError, Database, UnreachableError
from vedette_checks.postgres.session import Session
from vedette_checks.postgres.target import Target, parse_dsn
from vedette_checks.postgres.visit import Visit

STATUS = "postgres.health"
METRICS = (
    Metric(
        "postgresql.health.response_time",
        Kind.GAUGE,
        "millisecond",
        "How long a small query took on the connection that is kept to each server.",
        ("replica", "path"),
    ),
    Metric(
        "postgresql.health.lag_seconds",
        Kind.GAUGE,
        "second",
        "How long the replica is behind its primary; 0 where it has replayed all that the primary wrote.",
        ("replica",),
    ),
    Metric(
        "postgresql.health.lag_bytes",
        Kind.GAUGE,
        "byte",
        "WAL of the primary that the replica had not replayed when it was asked.",
        ("replica",),
    ),
)
_READ = """
SELECT pg_is_in_recovery() AS standby,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                       '0/0')::int8 AS place,
       extract(epoch FROM clock_timestamp())::float8 AS clock,
       extract(epoch FROM pg_last_xact_replay_timestamp())::float8 AS replayed,
       EXISTS (SELECT FROM pg_stat_wal_receiver) AS streams,
       (SELECT system_identifier FROM pg_control_system()) AS system
"""
_LOOKS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Pauses in seconds before looking again whether the replica has caught up."""


class ReplicaConfig(BaseModel):
    """`replica:`, the other half of a pair."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dsn: Secret = Field(
        description="Address and login of the replica, as `dsn` above.",
        examples=["postgresql://vedette@db2.internal/payments"],
    )
    password: Password | None = Field(
        None,
        description="Its password. Default: that of the primary, if the DSN has none.",
        examples=["${file:/run/pg2}"],
    )
    lag_warning: Duration = Field(30.0, description="`postgres.health` is WARNING from this lag on.", gt=0)
    lag_critical: Duration = Field(300.0, description="`postgres.health` is CRITICAL from this lag on.", gt=0)
    lag_bytes_warning: int | None = Field(
        None, description="WARNING from this many bytes behind on.", examples=[67108864], gt=0
    )
    lag_bytes_critical: int | None = Field(
        None, description="CRITICAL from this many bytes behind on.", examples=[1073741824], gt=0
    )
    streaming: bool = Field(
        True, description="Whether it should stream from its primary; false for one that replays archived WAL."
    )

    @field_validator("dsn")
    @classmethod
    def _readable(cls, value: Secret) -> Secret:
        parse_dsn(value.reveal())
        return value

    @model_validator(mode="after")
    def _in_order(self) -> ReplicaConfig:
        if self.password is not None and parse_dsn(self.dsn.reveal()).password:
            raise ValueError("`dsn` has a password already: leave out password")
        if self.lag_critical < self.lag_warning:
            raise ValueError("lag_critical must not be shorter than lag_warning")
        if self.lag_bytes_warning and self.lag_bytes_critical and self.lag_bytes_critical < self.lag_bytes_warning:
            raise ValueError("lag_bytes_critical must not be less than lag_bytes_warning")
        return self

    def target(self, primary: Target) -> Target:
        """Where the replica is."""
        target = parse_dsn(self.dsn.reveal())
        if self.password is not None:
            return target.with_password(self.password)
        return target if target.password else target.with_password(primary.minted or Password(primary.password))


@dataclass(frozen=True, slots=True)
class Reading:
    """One server's answer.

    Attributes:
        seconds: how long it took.
        at: monotonic seconds when it was there.
        standby: whether the server is in recovery.
        place: bytes of WAL written, or replayed by a standby, since the beginning of time.
        clock: the server's clock, Unix seconds.
        replayed: when the last transaction that a standby replayed was committed, by the primary's clock.
        streams: whether it receives WAL from another server.
        system: the cluster's identifier, the same for all copies.
    """

    seconds: float
    at: float
    standby: bool
    place: int
    clock: float
    replayed: float | None
    streams: bool
    system: int


def _reading(row: Sequence[Any], before: float) -> Reading:
    now = monotonic()
    standby, place, clock, replayed, streams, system = row
    return Reading(now - before, now, standby, place or 0, clock, replayed, streams, system)


async def _read(session: Session) -> Reading:
    before = monotonic()
    (row,) = await session.fetch(_READ)
    return _reading(row, before)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a replica is behind.

    Attributes:
        seconds: until it had, or will have, replayed what the primary had written; where `certain` is False, the least
            that it can be.
        size: bytes when it was asked.
        certain: whether the seconds are known: from the start on they are once the replica was seen to catch up, or is
            behind no further than we have watched the primary.
    """

    seconds: float
    size: int
    certain: bool = True


class History:
    """Where the primary was when, so that a replica's place tells how old what it has replayed is."""

    def __init__(self) -> None:
        self._places: deque[tuple[float, int]] = deque(maxlen=1_000)
        self._system = 0

    def note(self, reading: Reading) -> None:
        """Remember where the primary is."""
        if self._places and (reading.system != self._system or reading.place < self._places[-1][1]):
            self._places.clear()  # another primary
        self._system = reading.system
        self._places.append((reading.at, reading.place))

    def span(self, now: float) -> float:
        """Seconds since the primary was first seen."""
        return now - self._places[0][0]

    def age(self, place: int, now: float) -> float | None:
        """Seconds since the primary was last seen at or before this place; None if that was before our time."""
        while len(self._places) > 1 and self._places[1][1] <= place:
            self._places.popleft()
        at, known = self._places[0]
        return now - at if known <= place else None


class Pair:
    """Watches a primary and its replica: the primary as a part of the visit to it, the replica at the same time.

    Args:
        config: the options.
        primary: where the primary is.
        replica: how to talk to the replica.
    """

    metrics: tuple[Metric, ...] = METRICS
    everywhere = False

    def __init__(self, config: ReplicaConfig, primary: Target, replica: Database) -> None:
        self._config = config
        self._where = primary
        self._replica = replica
        self._tags = (*primary.tags, f"replica:{replica.target}")
        self._history = History()
        self._answered = asyncio.Event()
        self._primary: Reading | None = None
        self._seen: Reading | None = None
        self._lag: Lag | None = None
        self._trouble = ""
        self._busy = False

    async def collect(self, visit: Visit) -> None:
        """Ask the primary where it is."""
        before = monotonic()
        rows = await visit.rows("pg_current_wal_lsn", _READ)
        if rows:
            self._primary = primary = _reading(rows[0], before)
            if not primary.standby:
                self._history.note(primary)  # also while the replica is not to be reached, or its silence were its lag
        self._answered.set()

    @asynccontextmanager
    async def watched(self, emit: Emit, patience: float) -> AsyncIterator[None]:
        """Ask the replica while the body visits the primary, and report on both.

        Args:
            emit: where to.
            patience: seconds that the replica may take.
        """
        self._answered.clear()
        self._primary, self._seen, self._lag, self._trouble, self._busy = None, None, None, "", False
        watch, trouble = asyncio.ensure_future(self._watch(patience)), ""
        try:
            yield
        except CheckError as error:
            trouble = "; ".join(filter(None, (str(error), error.hint)))
            raise
        except asyncio.CancelledError:
            watch.cancel()
            raise
        finally:
            self._answered.set()
            await asyncio.wait({watch})
            if not watch.cancelled():
                watch.result()
                self._report(emit, trouble)

    async def _watch(self, patience: float) -> None:
        end = monotonic() + patience
        try:
            await self._replica.talk(_read, patience)  # connects meanwhile
            with suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), (end - monotonic()) / 2)
            left = end - monotonic()
            await self._replica.talk(lambda session: self._look(session, end - left / 2), left)
        except UnreachableError as error:
            self._trouble = str(error)
            self._busy = isinstance(error, BusyError)

    async def _look(self, session: Session, until: float) -> None:
        self._seen = seen = await _read(session)
        primary = self._primary
        if primary is None or primary.standby or not seen.standby or primary.system != seen.system:
            return
        behind = max(0, primary.place - seen.place)
        for pause in _LOOKS:
            if seen.place >= primary.place or seen.at + pause > until:
                break
            await asyncio.sleep(pause)
            seen = await _read(session)
        self._lag = self._measure(primary, seen, behind) if behind else Lag(0.0, 0)

    def _measure(self, primary: Reading, seen: Reading, behind: int) -> Lag:
        """How long the replica is behind.

        One that has caught up while we looked needed no longer than that. Another has replayed at least what the
        primary had written when it was last seen at that place, and all that was committed before the last transaction
        that it replayed: neither is too little. Where it was never seen there, and the last transaction is old, either
        the replica is far behind or the primary had been idle until a moment ago: then only time can tell.
        """
        looked = seen.at - primary.at
        if seen.place >= primary.place:
            return Lag(looked, behind)
        replayed = None if seen.replayed is None else primary.clock + looked - seen.replayed
        watched = self._history.age(seen.place, seen.at)
        if watched is not None:
            return Lag(max(looked, min(watched, watched if replayed is None else replayed)), behind)
        if replayed is not None and replayed < self._config.lag_warning:
            return Lag(max(looked, replayed), behind)
        return Lag(max(looked, self._history.span(seen.at)), behind, certain=False)

    def _report(self, emit: Emit, trouble: str) -> None:
        primary = self._primary
        for path, reading in (("primary", primary), ("replica", self._seen)):
            if reading is not None:
                tags = (*self._tags, f"path:{path}")
                emit.gauge("postgresql.health.response_time", reading.seconds * 1000, tags)
        if self._lag is not None:
            emit.gauge("postgresql.health.lag_seconds", self._lag.seconds, self._tags)
            emit.gauge("postgresql.health.lag_bytes", self._lag.size, self._tags)
        problems = list(self._problems(primary, trouble))
        worst = max((status for status, _ in problems), default=Status.OK)
        emit.status(STATUS, worst, "; ".join(text for _, text in problems), self._tags)

    def _problems(self, primary: Reading | None, trouble: str) -> Iterator[tuple[Status, str]]:
        if trouble:
            yield Status.CRITICAL, f"primary: {trouble}"
        elif primary is None:
            yield Status.WARNING, "primary: it does not tell how far it has written; see postgres.reads"
        if self._trouble:
            yield Status.WARNING if self._busy else Status.CRITICAL, f"replica: {self._trouble}"
        elif primary is not None and self._seen is not None:
            yield from self._as_a_pair(primary, self._seen)
        if self._lag is not None:
            yield from self._too_far(self._lag)

    def _as_a_pair(self, primary: Reading, seen: Reading) -> Iterator[tuple[Status, str]]:
        one, other = self._where, self._replica.target
        if primary.system != seen.system:
            yield Status.CRITICAL, f"{other} is no copy of {one}; check the addresses"
        elif primary.standby and seen.standby:
            yield Status.CRITICAL, f"no primary: {one} and {other} are both in recovery"
        elif primary.standby:
            yield Status.WARNING, f"they changed places: {other} is the primary, {one} is in recovery"
        elif not seen.standby and (one.host, one.port) == (other.host, other.port):
            yield Status.CRITICAL, f"`replica` is the primary itself: {other}"
        elif not seen.standby:
            yield Status.CRITICAL, f"two primaries: {one} and {other} both accept writes"
        elif not seen.streams and self._config.streaming:
            yield Status.WARNING, f"replica: {other} does not stream from a primary"

    def _too_far(self, lag: Lag) -> Iterator[tuple[Status, str]]:
        config = self._config
        said = f"the replica is {'' if lag.certain else 'at least '}{lag.seconds:.3g}s behind ({lag.size} bytes)"
        if lag.seconds >= config.lag_critical or lag.size >= (config.lag_bytes_critical or inf):
            yield Status.CRITICAL, said
        elif lag.seconds >= config.lag_warning or lag.size >= (config.lag_bytes_warning or inf):
            yield Status.WARNING, said

    def close(self) -> None:
        """Drop the connection to the replica."""
        self._replica.close()
