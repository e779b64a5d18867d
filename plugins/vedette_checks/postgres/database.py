"""One database as an instance knows it: its connection, what is remembered of it, and visits under a deadline."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg
from asyncpg import exceptions

from vedette import Emit
from vedette_checks.postgres.findings import Finding, failure
from vedette_checks.postgres.session import LOST, Limits, Session, StuckError
from vedette_checks.postgres.target import Target
from vedette_checks.postgres.visit import Memory, Part, Visit

T = TypeVar("T")


class UnreachableError(Exception):
    """There is no talking to a database.

    Attributes:
        finding: why, in a sentence.
        gone: whether the server says that it has no such database.
    """

    def __init__(self, finding: Finding, *, gone: bool = False) -> None:
        super().__init__(str(finding))
        self.finding = finding
        self.gone = gone


class Database:
    """One database of a server, asked again and again over at most one connection.

    Args:
        target: which.
        limits: what our queries may take.
        parts: what to collect there, in this order.
        main: whether it is the instance's own.
    """

    def __init__(self, target: Target, limits: Limits, parts: Sequence[Part] = (), *, main: bool = True) -> None:
        self.target = target
        self._parts = parts
        self._main = main
        self._memory = Memory()
        self._session = Session(target, limits)

    @property
    def asked(self) -> int:
        """Statements that the last visit sent."""
        return self._session.asked

    async def visit(self, emit: Emit, patience: float) -> Visit:
        """Collect; returns the visit with what it found wrong.

        Args:
            emit: where to.
            patience: seconds that all of it may take.

        Raises:
            UnreachableError: there is no talking to it.
        """

        async def collect(session: Session) -> Visit:
            visit = Visit(session, emit, self._memory, main=self._main)
            await visit.greet()
            for part in self._parts:
                await part.collect(visit)
            return visit

        return await self.talk(collect, patience)

    async def talk(self, work: Callable[[Session], Awaitable[T]], patience: float) -> T:
        """Connect, unless the connection of the last time still stands, and do this.

        Args:
            work: asks over the session.
            patience: seconds that all of it may take.

        Raises:
            UnreachableError: there is no talking to it.
        """
        try:
            async with asyncio.timeout(patience):
                return await self._talk(work, patience * 0.9)
        except StuckError as stuck:
            hint = "it is frozen or waits for its disk; no second connection is made meanwhile"
            message = f"the server process {stuck.pid} has not answered for {stuck.seconds:.0f}s"
            raise UnreachableError(Finding(message, hint)) from None
        except (asyncpg.PostgresError, *LOST, OSError, ssl.SSLError) as error:
            raise self._explain(error, patience) from error

    async def _talk(self, work: Callable[[Session], Awaitable[T]], patience: float) -> T:
        session = self._session
        await session.connect(patience)
        try:
            return await session.during(lambda: work(session))
        except LOST:
            if session.fresh or session.answered:
                raise
        session.close()  # the connection had died since the last time
        await session.connect(patience)
        return await session.during(lambda: work(session))

    def _explain(self, error: BaseException, patience: float) -> UnreachableError:
        session = self._session
        finding = failure(error, self.target, patience, greeted=session.greeted)
        if not (isinstance(error, TimeoutError) and session.greeted):
            session.close()  # a query in flight is waited for instead
        return UnreachableError(finding, gone=isinstance(error, exceptions.InvalidCatalogNameError))

    async def leave(self) -> None:
        """Take leave and drop the connection, until the next visit."""
        await self._session.leave()

    def close(self) -> None:
        """Drop the connection at once."""
        self._session.close()
