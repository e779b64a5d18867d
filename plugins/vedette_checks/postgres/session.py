"""One connection to one database, kept between runs; a polite guest, through PgBouncer too."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from asyncpg import exceptions

from vedette.kit import ssl_context
from vedette_checks.postgres.findings import UnusableFilesError
from vedette_checks.postgres.target import Target

T = TypeVar("T")

APPLICATION_NAME = "vedette"
_KEEPALIVE = (  # a peer that is gone is noticed after half a minute, a peer that merely hangs is not given up
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", 18), 30_000),
)


LOST = (
    exceptions.InterfaceError,
    exceptions.InternalClientError,  # what the driver says when the server said goodbye while nothing was asked
    exceptions.PostgresConnectionError,
    exceptions.AdminShutdownError,
    exceptions.CrashShutdownError,
    ConnectionError,
)
"""Errors after which a connection is of no use."""


class StuckError(Exception):
    """The server has not answered a query of an earlier run yet.

    Attributes:
        pid: the server process of this connection.
        seconds: for how long.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        super().__init__(f"process {pid} silent for {seconds:.0f}s")
        self.pid = pid
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """What a query of ours may take.

    Attributes:
        lock_timeout: seconds that it waits for a lock.
        statement_timeout: seconds that it may take in all.
        pooled: whether PgBouncer is in between; None finds out.
    """

    lock_timeout: float
    statement_timeout: float
    pooled: bool | None = None

    def settings(self) -> dict[str, str]:
        """As parameters of the server."""
        return {
            "lock_timeout": f"{max(1, round(self.lock_timeout * 1000))}ms",
            "statement_timeout": f"{max(1, round(self.statement_timeout * 1000))}ms",
            "idle_in_transaction_session_timeout": "60s",
        }


class Session:
    """The one connection of an instance to one database.

    A query that does not end in time is neither cancelled nor left behind for a new connection: both would add
    connections to a server that is in trouble. The session waits for it, and says so until it ends. The server ends
    it by `statement_timeout` if it still can.

    Args:
        target: where to.
        limits: what queries may take.
    """

    def __init__(self, target: Target, limits: Limits) -> None:
        self.target = target
        self.pooled = limits.pooled
        self.greeted = False
        """Whether the server has answered on this connection."""
        self.fresh = False
        """Whether the last `connect` made a new connection."""
        self.answered = False
        """Whether a query was answered since the last `connect`."""
        self.asked = 0
        """Statements sent since the last `connect` that found or made a connection."""
        self._limits = limits.settings()
        begin = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in self._limits.items())
        self._begin = f"BEGIN READ ONLY{begin}"
        self._connection: Any = None
        self._late: asyncio.Task[Any] | None = None
        self._late_since = 0.0

    @property
    def version(self) -> int:
        """The server's major version, such as 18."""
        major: int = self._connection.get_server_version().major
        return major

    @property
    def stands(self) -> bool:
        """Whether there is a connection that can be used."""
        return self._connection is not None and not self._connection.is_closed()

    @property
    def pid(self) -> int:
        """The server process of this connection; PgBouncer invents one."""
        return self._connection.get_server_pid() if self._connection is not None else 0

    async def connect(self, patience: float) -> None:
        """Connect, unless the connection of the last run still stands.

        Args:
            patience: seconds to wait for a query of an earlier run.

        Raises:
            StuckError: it is still unanswered.
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: there is no connecting.
        """
        await self._settle(patience)
        self.answered, self.asked = False, 0
        self.fresh = self._connection is None or self._connection.is_closed()
        if not self.fresh:
            return
        self.greeted = False
        if self.pooled is None:
            self.pooled = not await self._open_direct()
        elif not self.pooled:
            await self._open({**self._limits, "default_transaction_read_only": "on"})
        if self.pooled and (self._connection is None or self._connection.is_closed()):
            await self._open({})
        self.greeted = True

    async def _open_direct(self) -> bool:
        try:
            await self._open({**self._limits, "default_transaction_read_only": "on"})
        except exceptions.PostgresError as error:
            if "unsupported startup parameter" in str(error):
                return False  # PgBouncer, which does not pass on what it does not know
            raise
        settings = self._connection.get_settings()
        if getattr(settings, "default_transaction_read_only", "on") == "on":
            taken = await self._connection.fetchval("SELECT current_setting('lock_timeout')")
            if taken != "0":
                return True
        self.close()  # PgBouncer, told to ignore such parameters
        return False

    async def _open(self, settings: dict[str, str]) -> None:
        target = self.target
        self._connection = await asyncpg.connect(
            host=target.host,
            port=target.port,
            user=target.username or None,
            password=target.password or None,
            database=target.dbname,
            ssl=self._tls(),
            timeout=3600,  # one deadline holds for the whole run, and it is shorter
            statement_cache_size=0 if self.pooled else 200,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": APPLICATION_NAME, **settings},
        )
        if not target.host.startswith("/"):
            sock = self._connection._transport.get_extra_info("socket")
            for level, option, value in _KEEPALIVE:
                sock.setsockopt(level, option, value)

    def _tls(self) -> Any:
        target = self.target
        if not target.verified and target.cert_file is None:
            return None if target.host.startswith("/") else target.sslmode
        try:
            return ssl_context(
                ca_file=target.ca_file,
                cert_file=target.cert_file,
                key_file=target.key_file,
                verify=target.verified,
                check_hostname=target.sslmode == "verify-full",
            )
        except OSError as error:
            raise UnusableFilesError(error) from error

    async def fetch(self, sql: str, *arguments: Any) -> Sequence[Any]:
        """The rows that a query returns, as `asyncpg.Record`.

        Raises:
            asyncpg.PostgresError: the server refused; the connection is fit for the next query.
            OSError, asyncpg.InterfaceError: the connection is lost.
        """
        connection = self._connection
        if self._late is not None or connection is None:
            raise ConnectionAbortedError("the run is over")
        self.asked += 3 if self.pooled else 1
        rows: Sequence[Any]
        if self.pooled:
            rows = await self._fetch_in_transaction(connection, sql, arguments)
        else:
            rows = await connection.fetch(sql, *arguments)
        self.answered = True
        return rows

    async def _fetch_in_transaction(self, connection: Any, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        await connection.execute(self._begin)
        try:
            rows: Sequence[Any] = await connection.fetch(sql, *arguments)
        finally:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
        return rows

    async def during(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do this, and let the caller's deadline interrupt the waiting but not a query in flight."""
        task = asyncio.ensure_future(work())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._late, self._late_since = task, time.monotonic()
                task.add_done_callback(_note_exception)
            raise

    async def _settle(self, patience: float) -> None:
        if self._late is None:
            return
        done, _ = await asyncio.wait({self._late}, timeout=patience)
        if not done:
            raise StuckError(self.pid, time.monotonic() - self._late_since)
        self._late = None

    async def leave(self) -> None:
        """Take leave of the server and drop the connection; of one that has yet to answer nobody takes leave."""
        connection = self._connection
        if connection is None or self._late is not None:
            return
        self._connection = None
        try:
            await connection.close(timeout=1.0)
        except (*LOST, OSError):
            connection.terminate()

    def close(self) -> None:
        """Drop the connection without a word: a server that hangs would not take leave."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _note_exception(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
