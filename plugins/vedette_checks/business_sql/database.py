"""One database over one connection that is kept: transactions that only read, and queries that end in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import TextClause

from vedette import Login, Password
from vedette_checks.business_sql.findings import lost
from vedette_checks.business_sql.url import DatabaseUrl

LOCK_TIMEOUT = 1.0
"""Seconds that a query waits for a lock."""
_MARGIN = 1.0  # seconds that a server may take longer to end a query than it was told
_GUARD = (
    "SELECT set_config('statement_timeout', '{0}ms', true), set_config('lock_timeout', '{1}ms', true), "
    "pg_is_in_recovery()"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """A result: the names of its columns, and its rows."""

    names: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


class Transaction:
    """A transaction that only reads.

    Attributes:
        standby: whether the server is in recovery.
    """

    def __init__(
        self, connection: AsyncConnection, patience: float, abort: Callable[[], Awaitable[None]], *, standby: bool
    ) -> None:
        self.standby = standby
        self._connection = connection
        self._patience = patience
        self._abort = abort

    async def fetch(self, clause: TextClause, values: Mapping[str, Any] | None = None) -> Rows:
        """The rows of a query.

        Neither driver takes a cancellation well (one opens a second connection to send it, one waits for the query),
        so a query that is too late, or nobody waits for any more, is aborted instead.

        Raises:
            SQLAlchemyError, TimeoutError, OSError: there are none.
        """
        task = asyncio.ensure_future(self._connection.execute(clause, dict(values or {})))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._patience)
        except asyncio.CancelledError:
            await self._end(task)
            raise
        if not done:
            await self._end(task)
            raise TimeoutError
        result = task.result()
        return Rows(tuple(result.keys()), result.fetchall())

    async def attempt(self, clause: TextClause) -> Rows | None:
        """The rows of a query, or None if the database refuses it: the transaction goes on in any case.

        Raises:
            SQLAlchemyError, TimeoutError, OSError: the connection is lost.
        """
        nested = await self._connection.begin_nested()
        try:
            rows = await self.fetch(clause)
        except SQLAlchemyError as error:
            if lost(error):
                raise
            await nested.rollback()
            return None
        await nested.commit()
        return rows

    async def _end(self, task: asyncio.Future[Any]) -> None:
        await self._abort()
        await asyncio.wait({task}, timeout=_MARGIN)
        if task.done() and not task.cancelled():
            task.exception()


class Database:
    """The database of one instance.

    Args:
        url: where it is.
        password: its password, if the URL has none.
        statement_timeout: seconds that a query may take.
    """

    def __init__(self, url: DatabaseUrl, password: Password | None, statement_timeout: float) -> None:
        fixed = password.reveal() if password is not None else ""
        self._url = url.url.set(password=fixed) if fixed else url.url
        self._minted = password if password is not None and password.minted is not None else None
        self._patience = statement_timeout
        self.dialect = self._url.get_backend_name()
        self.secrets = tuple(one for one in (self._url.password,) if one)
        """What must not be shown of it."""
        self._engine: AsyncEngine | None = None
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        self._file = 0
        self._guard = text(_GUARD.format(round(statement_timeout * 1000), round(LOCK_TIMEOUT * 1000)))

    @property
    def place(self) -> str:
        """The database as it may be shown."""
        return shown(self._url)

    @property
    def connected(self) -> bool:
        """Whether a connection of an earlier run is kept."""
        return self._connection is not None

    async def connect(self) -> None:
        """Connect, unless the connection of the last run still stands.

        Raises:
            SQLAlchemyError, OSError, TimeoutError: there is no connecting.
        """
        if self._connection is not None and self._file == self._file_now():
            return
        await self.close()
        if self._engine is None:
            self._engine = self._make_engine()
        async with asyncio.timeout(self._patience):
            connection = await self._engine.connect()
        self._connection = connection
        self._file = self._file_now()
        self._driver = (await connection.get_raw_connection()).driver_connection
        if self.dialect == "postgresql":
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        elif self.dialect == "sqlite":
            await connection.exec_driver_sql("PRAGMA query_only = ON")
            await connection.rollback()

    def _make_engine(self) -> AsyncEngine:
        more: dict[str, Any] = {}
        url = self._url
        if self.dialect == "sqlite":
            more["connect_args"] = {"timeout": LOCK_TIMEOUT}
            if (
                url.database and url.database != ":memory:" and not url.query
            ):  # mode=rw: a wrong path makes no empty file
                url = url.set(database=f"file:{quote(url.database)}", query={"mode": "rw", "uri": "true"})
        if self._url.drivername == "postgresql+asyncpg":
            more["connect_args"] = {"server_settings": {"application_name": "vedette"}, "timeout": 3600}
            if self._minted is not None:
                more["connect_args"]["password"] = self._new_password  # the driver asks at each connection
        return create_async_engine(url, poolclass=NullPool, **more)

    async def _new_password(self) -> str:
        url = self._url
        login = Login("postgresql", url.host or "localhost", url.port or 5432, url.username or "")
        return await self._minted.of(login) if self._minted is not None else ""

    def _file_now(self) -> int:
        """Which file of SQLite's stands at the path: one that was put in its place is another database."""
        if self.dialect != "sqlite" or not self._url.database:
            return 0
        try:
            return Path(self._url.database).stat().st_ino
        except OSError:
            return 0

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """A transaction that only reads; all its queries see the same state of the database.

        Raises:
            SQLAlchemyError, OSError, TimeoutError: the database does not answer.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionAbortedError("not connected")
        try:
            yield await self._begin(connection)
        except (SQLAlchemyError, OSError) as error:
            if lost(error) and not isinstance(error, TimeoutError):
                await self.close()
            raise
        finally:
            if self._connection is connection and not connection.closed:
                await self._roll_back(connection)

    async def _begin(self, connection: AsyncConnection) -> Transaction:
        patience, standby = self._patience + _MARGIN, False
        if self.dialect == "sqlite":
            await connection.exec_driver_sql("BEGIN")
            patience = self._patience
        elif self.dialect == "postgresql":
            async with asyncio.timeout(patience):
                standby = bool((await connection.execute(self._guard)).fetchall()[0][2])
        return Transaction(connection, patience, self._abort, standby=standby)

    async def _roll_back(self, connection: AsyncConnection) -> None:
        try:
            async with asyncio.timeout(_MARGIN):
                await connection.rollback()
        except (SQLAlchemyError, OSError, TimeoutError):
            await self.close()

    async def _abort(self) -> None:
        """A query took too long: SQLite is told to stop it, of another database the connection is dropped."""
        if self.dialect == "sqlite" and self._driver is not None:
            await self._driver.interrupt()
        else:
            await self.close()

    async def close(self) -> None:
        """Drop the connection; a server that hangs is not taken leave of."""
        connection, self._connection = self._connection, None
        driver, self._driver = self._driver, None
        if driver is not None and hasattr(driver, "terminate"):
            driver.terminate()
        if connection is not None:
            with suppress(SQLAlchemyError, OSError, TimeoutError):
                async with asyncio.timeout(_MARGIN):
                    await connection.invalidate()
                    await connection.close()
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()


def shown(url: URL) -> str:
    """A database's address without its user and password: `db1:5432/payments`, or the name of a file."""
    if url.get_backend_name() == "sqlite":
        return url.database or "the database in memory"
    port = f":{url.port}" if url.port else ""
    return f"{url.host or 'localhost'}{port}/{url.database or ''}"
