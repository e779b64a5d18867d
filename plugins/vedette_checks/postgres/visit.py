"""One run on one database: guarded queries, the tags of what they find, and what was found wrong."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from asyncpg import exceptions

from vedette import Emit, Metric
from vedette.kit import Totals
from vedette_checks.postgres.findings import Finding, refusal
from vedette_checks.postgres.session import Session
from vedette_checks.postgres.target import Target

PUT_OFF = 600.0  # seconds until a query is tried again that the server has no right or no relation for
_LEAST = 0.5  # seconds, or a twentieth of a shorter run: with less left no further query is begun
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


class Turns:
    """Who had a turn when, so that those who found no time come first the next time."""

    def __init__(self) -> None:
        self._run = 0
        self._last: dict[str, int] = {}

    def begin(self) -> None:
        """A run begins."""
        self._run += 1

    def note(self, one: str) -> None:
        """This one has its turn in this run."""
        self._last[one] = self._run

    def last(self, one: str) -> int:
        """The number of the run in which this one had its last turn; 0 if it had none."""
        return self._last.get(one, 0)


@dataclass(slots=True)
class Memory:
    """What an instance remembers of one database from run to run.

    Attributes:
        totals: keeps totals level over restarts and failovers.
        put_off: queries not to try again before a time of the monotonic clock, and why.
        apart_until: monotonic seconds until which to ask one by one what took too long at once.
        turns: who had a turn when.
    """

    totals: Totals = field(default_factory=Totals)
    put_off: dict[str, tuple[float, Finding]] = field(default_factory=dict)
    apart_until: float = 0.0
    turns: Turns = field(default_factory=Turns)


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
        complete: whether the run's time did not end it.
    """

    def __init__(self, session: Session, emit: Emit, memory: Memory, until: float = inf, *, main: bool = True) -> None:
        """See above.

        Args:
            session: the connection.
            emit: where to.
            memory: of the database.
            until: monotonic seconds after which nothing more is asked.
            main: see above.
        """
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
        self.complete = True
        self._session = session
        self._until = until
        self._least = max(0.0, min(_LEAST, (until - time.monotonic()) / 20))
        self._left_out: list[str] = []
        self._asked = ""
        memory.turns.begin()

    @property
    def greeted(self) -> bool:
        """Whether the server has answered in this run."""
        return self.version > 0

    @property
    def statement_timeout(self) -> float:
        """Seconds that a query may take."""
        return self._session.limits.statement_timeout

    @property
    def left(self) -> float:
        """Seconds in which to ask."""
        return self._until - time.monotonic()

    @property
    def has_time(self) -> bool:
        """Whether it is worth while to ask anything more."""
        return self.left > self._least

    def can_ask(self, name: str) -> bool:
        """Whether there is time for a query that findings call this; if there is not, it is noted as left out."""
        if not self.has_time:
            self.leave_out(name)
            return False
        self._asked = name
        return True

    def leave_out(self, name: str) -> None:
        """Note that there was no time for the query that findings call this."""
        if name not in self._left_out:
            self._left_out.append(name)

    def cut(self, patience: float) -> None:
        """The run's time ended in the middle of a query.

        Args:
            patience: seconds that the run had.
        """
        self.complete = False
        hint = "nothing else is asked before it has answered: see pg_stat_activity, and postgres.blocking"
        if self._session.pooled:
            hint = "its pool is exhausted, or the server behind it hangs: see SHOW POOLS of PgBouncer"
        self.findings.append(Finding(f"{self._asked}: no answer when the run ended after {patience:.3g}s", hint))

    def conclude(self) -> None:
        """Say what there was no time for."""
        if self._left_out:
            hint = "the next runs begin with them; raise `timeout`, or ask for less"
            self.findings.append(Finding(f"no time for {spoken(self._left_out, 5)}", hint))

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
        if self.is_put_off(name) or not self.can_ask(name):
            return None
        try:
            return await self._session.fetch(sql, *arguments)
        except exceptions.PostgresError as error:
            self.refuse(name, error)
            return None

    async def attempt(self, sql: str) -> Sequence[Any] | exceptions.PostgresError | exceptions.InterfaceError:
        """The rows of a query, or the server's or the driver's refusal, of which nothing is noted."""
        return await self._attempt(self._session.fetch(sql))

    async def attempt_apart(
        self, sql: str, within: float
    ) -> Sequence[Any] | exceptions.PostgresError | exceptions.InterfaceError:
        """The same in a transaction of its own, for what others wrote.

        Args:
            sql: the query.
            within: seconds that it may take.
        """
        return await self._attempt(self._session.fetch_apart(sql, within=within))

    async def _attempt(
        self, rows: Awaitable[Sequence[Any]]
    ) -> Sequence[Any] | exceptions.PostgresError | exceptions.InterfaceError:
        try:
            return await rows
        except exceptions.InterfaceError as error:
            if not self._session.stands:
                raise
            return error
        except exceptions.PostgresError as error:
            self._pass_on(error)
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
        self._pass_on(error)
        found = refusal(error, name, self.target)
        self.findings.append(found)
        if found.lasting:
            self.memory.put_off[name] = (time.monotonic() + PUT_OFF, found)

    def _pass_on(self, error: exceptions.PostgresError) -> None:
        """Raise it again if it ends the session."""
        ends = isinstance(error, exceptions.PostgresConnectionError | exceptions.OperatorInterventionError)
        if isinstance(error, exceptions.ProtocolViolationError) and self._session.stands:
            return  # what was sent is malformed, such as a text with a NUL; the server goes on
        if ends and not isinstance(error, exceptions.QueryCanceledError):
            raise error


def spoken(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
