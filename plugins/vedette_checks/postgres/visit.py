"""One run on one database: guarded queries, the tags of what they find, and what was found wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from asyncpg import exceptions

from vedette import Emit, Metric
from vedette.kit import Totals
from vedette_checks.postgres.findings import Finding, refusal
from vedette_checks.postgres.session import Session
from vedette_checks.postgres.target import Target

PUT_OFF = 600.0  # seconds until a query is tried again that the server has no right or no relation for
_WHO = (
    "SELECT pg_is_in_recovery(), extract(epoch FROM pg_postmaster_start_time())::float8, current_database()::text,"
    " pg_has_role('pg_read_all_stats', 'USAGE')"
)


class Part(Protocol):
    """Something to collect from a database."""

    metrics: tuple[Metric, ...]
    """What it may emit."""
    everywhere: bool
    """Whether it has something to say in each database of a server, not only in the instance's own."""

    async def collect(self, visit: Visit) -> None:
        """Ask and emit.

        Raises:
            OSError, asyncpg.InterfaceError: the connection is lost.
        """


@dataclass(slots=True)
class Memory:
    """What an instance remembers of one database from run to run.

    Attributes:
        totals: keeps totals level over restarts and failovers.
        put_off: queries not to try again before a time of the monotonic clock, and why.
        apart_until: monotonic seconds until which to ask one by one what took too long at once.
    """

    totals: Totals = field(default_factory=Totals)
    put_off: dict[str, tuple[float, Finding]] = field(default_factory=dict)
    apart_until: float = 0.0


class Visit:
    """One run on one database.

    Attributes:
        emit: where to.
        target: which database.
        main: whether it is the instance's own; False for those that `databases:` found.
        version: the server's major version, such as 18; 0 until `greet`.
        standby: whether the server is in recovery, as of this run.
        sees_all: whether our role may see what the sessions of others do.
        started: when the server was started, in Unix seconds of its own clock: tells one life of it from the next.
        tags: the server's tags, its role among them.
        place: the same and the database's, for what belongs to this database only.
        findings: what was found wrong so far.
    """

    def __init__(self, session: Session, emit: Emit, memory: Memory, *, main: bool = True) -> None:
        self.emit = emit
        self.main = main
        self.target: Target = session.target
        self.version = 0
        self.standby = False
        self.sees_all = True
        self.started = 0.0
        self.tags: tuple[str, ...] = self.target.tags
        self.place: tuple[str, ...] = (*self.tags, f"db:{self.target.dbname}")
        self.findings: list[Finding] = []
        self.memory = memory
        self._session = session

    async def greet(self) -> None:
        """Find out who answers: its version, its role and since when it runs.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: it does not answer.
        """
        ((self.standby, self.started, database, self.sees_all),) = await self._session.fetch(_WHO)
        self.version = self._session.version
        self.memory.totals.counted_by(self.started)
        self.tags = (*self.target.tags, f"replication_role:{'standby' if self.standby else 'master'}")
        self.place = (*self.tags, f"db:{database}")
        if not self.sees_all:
            user = self.target.username or "the role"
            text = f"{user} may not see what other sessions do: their activity and blocking are left out"
            self.findings.append(Finding(text, f"GRANT pg_monitor TO {user}"))

    async def rows(self, name: str, sql: str, *arguments: Any) -> Sequence[Any] | None:
        """The rows of a query; None if the server refuses it, which is noted as a finding and costs only this query.

        Args:
            name: what findings call it.
            sql: the query.
            arguments: values of its `$1`, `$2`, …
        """
        if self.is_put_off(name):
            return None
        try:
            return await self._session.fetch(sql, *arguments)
        except exceptions.PostgresError as error:
            self.refuse(name, error)
            return None

    async def attempt(self, sql: str) -> Sequence[Any] | exceptions.PostgresError | exceptions.InterfaceError:
        """The rows of a query, or the server's or the driver's refusal, of which nothing is noted."""
        try:
            return await self._session.fetch(sql)
        except exceptions.InterfaceError as error:
            if not self._session.stands:
                raise
            return error
        except exceptions.PostgresError as error:
            _pass_on(error)
            return error

    def is_put_off(self, name: str) -> bool:
        """Whether this was refused lately for want of a right or a relation; a finding says so again."""
        waiting = self.memory.put_off.get(name)
        if waiting is None:
            return False
        if time.monotonic() >= waiting[0]:
            del self.memory.put_off[name]
            return False
        self.findings.append(waiting[1])
        return True

    def refuse(self, name: str, error: exceptions.PostgresError) -> None:
        """Note what the server answered to a query called by this name as a finding.

        Raises:
            asyncpg.PostgresError: the error again, if it ends the session.
        """
        _pass_on(error)
        found = refusal(error, name, self.target)
        self.findings.append(found)
        if found.lasting:
            self.memory.put_off[name] = (time.monotonic() + PUT_OFF, found)


def _pass_on(error: exceptions.PostgresError) -> None:
    """Raise it again if it ends the session."""
    ends = isinstance(error, exceptions.PostgresConnectionError | exceptions.OperatorInterventionError)
    if ends and not isinstance(error, exceptions.QueryCanceledError):
        raise error
