"""One database as an instance knows it: its connection, what is remembered of it, and visits under a deadline."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import monotonic
from typing import TypeVar

import asyncpg
from asyncpg import exceptions

from vedette import Emit, SecretError
from vedette_checks.postgres.findings import Finding, failure, stuck
from vedette_checks.postgres.session import LOST, Limits, Session, Sessions, StuckError
from vedette_checks.postgres.target import Target
from vedette_checks.postgres.visit import Memory, Part, Visit

T = TypeVar("T")

_ASKING = 0.9
"""Of a visit's time: the rest is for the end of the last query and for saying what was found."""


class UnreachableError(Exception):
    """There is no talking to a database.

    Attributes:
        finding: why, in a sentence.
        gone: whether the server says that it has no such database.
        late: whether it was the time that ran out.
    """

    def __init__(self, finding: Finding, *, gone: bool = False, late: bool = False) -> None:
        super().__init__(str(finding))
        self.finding = finding
        self.gone = gone
        self.late = late


class BusyError(UnreachableError):
    """Another instance asked over the connection all the time.

    Attributes:
        answered: whether the server answered it meanwhile.
    """

    def __init__(self, finding: Finding, *, answered: bool) -> None:
        super().__init__(finding, late=True)
        self.answered = answered


class Database:
    """One database of a server, asked again and again over at most one connection.

    Args:
        target: which.
        limits: what our queries may take.
        parts: what to collect there: the first one first, the others in turn where a run has not time for all.
        main: whether it is the instance's own.
        sessions: shares connections with other instances.
    """

    def __init__(
        self,
        target: Target,
        limits: Limits,
        parts: Sequence[Part] = (),
        *,
        main: bool = True,
        sessions: Sessions | None = None,
    ) -> None:
        self.target = target
        self._limits = limits
        self._parts = parts
        self._main = main
        self._memory = Memory()
        self._sessions = sessions or Sessions()
        self._session: Session | None = None

    @property
    def late(self) -> bool:
        """Whether the server still owes an answer."""
        return self._session is not None and self._session.late

    @property
    def asked(self) -> int:
        """Statements that the last visit sent."""
        return self._session.asked if self._session is not None else 0

    async def visit(self, emit: Emit, patience: float) -> Visit:
        """Collect; returns the visit with what it found wrong, be it that time ran out.

        Args:
            emit: where to.
            patience: seconds that all of it may take.

        Raises:
            UnreachableError: there is no talking to it.
        """
        until = monotonic() + patience * _ASKING
        begun: list[Visit] = []

        async def collect(session: Session) -> Visit:
            visit = Visit(session, emit, self._memory, until, main=self._main)
            begun[:] = [visit]
            await visit.greet()
            for part in self._in_turn(visit):
                await part.collect(visit)
            return visit

        try:
            visit = await self.talk(collect, patience)
        except UnreachableError as error:
            if not (begun and begun[0].greeted and error.late):
                raise
            visit = begun[0]
            visit.cut(patience)
        visit.conclude()
        return visit

    def _in_turn(self, visit: Visit) -> Iterator[Part]:
        """The parts; those that found no time in the last runs come before those that did."""
        turns = self._memory.turns
        first, *others = self._parts or (None,)
        if first is not None:
            yield first
        for part in sorted(others, key=lambda part: turns.last(type(part).__name__)):
            if visit.has_time:
                turns.note(type(part).__name__)
            yield part

    async def talk(self, work: Callable[[Session], Awaitable[T]], patience: float) -> T:
        """Connect, unless the connection of the last time still stands, and do this.

        Args:
            work: asks over the session.
            patience: seconds that all of it may take.

        Raises:
            UnreachableError: there is no talking to it.
        """
        began = monotonic()
        if self._session is None:
            self._session = self._sessions.join(self.target)
        session = self._session
        if not await session.take(patience):
            raise self._busy(session, began, patience)
        try:
            async with asyncio.timeout(began + patience - monotonic()):
                return await self._talk(session, work, patience * _ASKING)
        except StuckError:
            raise UnreachableError(stuck(session), late=True) from None
        except (asyncpg.PostgresError, *LOST, OSError, ssl.SSLError, SecretError) as error:
            raise self._explain(session, error, patience) from error
        finally:
            session.give()

    async def _talk(self, session: Session, work: Callable[[Session], Awaitable[T]], patience: float) -> T:
        try:
            await session.connect(self._limits, patience)
            return await session.during(lambda: work(session))
        except LOST:
            if session.fresh or session.answered:
                raise
        session.drop()  # the connection had died since the last time
        await session.connect(self._limits, patience)
        return await session.during(lambda: work(session))

    def _explain(self, session: Session, error: BaseException, patience: float) -> UnreachableError:
        if isinstance(error, TimeoutError) and session.late and not session.greeted:
            return UnreachableError(stuck(session), late=True)
        pooled = bool(session.pooled)
        finding = failure(error, self.target, patience, greeted=session.greeted, pooled=pooled)
        if not session.late:
            session.drop()  # what is in flight is waited for instead
        gone = isinstance(error, exceptions.InvalidCatalogNameError)
        return UnreachableError(finding, gone=gone, late=isinstance(error, TimeoutError))

    def _busy(self, session: Session, began: float, patience: float) -> BusyError:
        message = f"another instance has asked {self.target} over the shared connection for {patience:.3g}s"
        hint = "give that one a shorter `timeout`, or ask it for less"
        return BusyError(Finding(message, hint), answered=session.last_answer >= began)

    async def settle(self, patience: float) -> Finding | None:
        """Wait for what the server still owes; returns why that is still to come, None once nothing is.

        Args:
            patience: seconds to wait.
        """
        session = self._session
        if session is None or not session.late:
            return None
        began = monotonic()
        if not await session.take(patience):
            return self._busy(session, began, patience).finding
        try:
            await session.settle(began + patience - monotonic())
        except StuckError:
            return stuck(session)
        finally:
            session.give()
        return None

    async def leave(self) -> None:
        """Take leave and drop the connection, until the next visit, unless another instance wants it."""
        session = self._session
        if session is not None and session.users == 1 and await session.take(0.1):
            try:
                await session.leave()
            finally:
                session.give()

    def close(self) -> None:
        """Drop the connection at once, unless another instance wants it."""
        session, self._session = self._session, None
        if session is not None:
            self._sessions.part(session)
