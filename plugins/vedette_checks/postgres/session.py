"""One connection to one database, kept between runs; a polite guest, through PgBouncer too."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar
from weakref import WeakValueDictionary

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


_FOREVER = 10**9  # seconds

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
    """What an earlier run asked of the server is still unanswered."""


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
            "lock_timeout": _milliseconds(self.lock_timeout),
            "statement_timeout": _milliseconds(self.statement_timeout),
            "idle_in_transaction_session_timeout": "60s",
        }


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


class _Line:
    """The event loop as the driver sees it while it connects: tells whether the server has taken the call.

    Until then there is nothing at the server, and giving up leaves nothing behind. From then on there is a server
    process of ours, which closing the socket does not end: what it waits for, it goes on waiting for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.taken = False
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """As the loop's; a peer that is gone is noticed from the first byte on."""
        transport, protocol = await self._loop.create_connection(*arguments, **options)
        self.taken = True
        sock = transport.get_extra_info("socket")
        for level, option, value in _KEEPALIVE:
            sock.setsockopt(level, option, value)
        return transport, protocol

    async def create_unix_connection(self, *arguments: Any, **options: Any) -> Any:
        """As the loop's."""
        made = await self._loop.create_unix_connection(*arguments, **options)
        self.taken = True
        return made


class Session:
    """The one connection of this process to one database, kept between runs.

    What does not end in time, be it a query or the connecting itself, is neither cancelled nor left behind for a new
    connection: both would add connections to a server that is in trouble. The session waits for it, and says so until
    it ends. The server ends a query by `statement_timeout` if it still can.

    Instances that ask the same database with the same login share it, one visit at a time: see `Sessions`.

    Args:
        target: where to.
        pooled: whether PgBouncer is in between; None finds out.
    """

    def __init__(self, target: Target, pooled: bool | None = None) -> None:
        self.target = target
        self.pooled = pooled
        self.users = 0
        """How many instances keep it open."""
        self.fresh = False
        """Whether the last `connect` made a new connection."""
        self.answered = False
        """Whether a query was answered since the last `connect`."""
        self.asked = 0
        """Statements sent since the last `connect` that found or made a connection."""
        self.last_answer = -inf
        """Monotonic seconds of the last answer to a query."""
        self._greeted = False
        self._limits = self._in_force = Limits(1.0, 1.0)
        self._connection: Any = None
        self._line: _Line | None = None
        self._late: asyncio.Task[Any] | None = None
        self._asked_at = 0.0
        self._turn = asyncio.Lock()

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

    @property
    def limits(self) -> Limits:
        """What queries may take now."""
        return self._limits

    @property
    def late(self) -> bool:
        """Whether an answer is outstanding that nobody waits for any more."""
        return self._late is not None

    @property
    def silence(self) -> float:
        """Seconds since the server was asked what it has not answered yet."""
        return time.monotonic() - self._asked_at

    @property
    def greeted(self) -> bool:
        """Whether the server has let us in on this connection."""
        return self._greeted

    async def take(self, patience: float) -> bool:
        """Wait for the visits of other instances to end; returns whether it is our turn, which `give` ends.

        Args:
            patience: seconds to wait.
        """
        try:
            async with asyncio.timeout(patience):
                return await self._turn.acquire()
        except TimeoutError:
            return False

    def give(self) -> None:
        """Let the next instance have its turn."""
        self._turn.release()

    async def connect(self, limits: Limits, patience: float) -> None:
        """Connect, unless the connection of the last run still stands.

        Args:
            limits: what queries may take from now on.
            patience: seconds to wait for what an earlier run asked.

        Raises:
            StuckError: it is still unanswered.
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: there is no connecting.
        """
        await self.settle(patience)
        self.answered, self.asked = False, 0
        self.fresh = not self.stands
        self._limits = limits
        if self.fresh:
            self._greeted = False
            if self.pooled is None:
                self.pooled = limits.pooled
            await self._keeping_what_is_taken()
        elif not self.pooled and self._in_force != limits:  # another instance was here
            await self.during(self._put_in_force)

    async def _keeping_what_is_taken(self) -> None:
        try:
            await self.during(self._establish)
        except asyncio.CancelledError:
            if self._late is not None and self._line is not None and not self._line.taken:
                self.drop()
            raise

    async def _establish(self) -> None:
        self._asked_at = time.monotonic()
        if self.pooled is None:
            self.pooled = not await self._open_direct()
        elif not self.pooled:
            await self._open(direct=True)
        if self.pooled and not self.stands:
            await self._open(direct=False)
        self._greeted = True

    async def _open_direct(self) -> bool:
        try:
            await self._open(direct=True)
        except exceptions.PostgresError as error:
            if "unsupported startup parameter" in str(error):
                return False  # PgBouncer, which does not pass on what it does not know
            raise
        settings = self._connection.get_settings()
        if getattr(settings, "default_transaction_read_only", "on") == "on":
            taken = await self._connection.fetchval("SELECT current_setting('lock_timeout')")
            if taken != "0":
                return True
        self._terminate()  # PgBouncer, told to ignore such parameters
        return False

    async def _open(self, *, direct: bool) -> None:
        target, self._in_force = self.target, self._limits
        settings = {**self._limits.settings(), "default_transaction_read_only": "on"} if direct else {}
        loop = asyncio.get_running_loop()
        self._line = _Line(loop)
        connection: Any = await asyncpg.connect(
            host=target.host,
            port=target.port,
            user=target.username or None,
            password=(target.new_password if target.minted else target.password) or None,
            database=target.dbname,
            ssl=self._tls(),
            timeout=_FOREVER,  # one deadline holds for the whole run
            loop=self._line,
            statement_cache_size=0 if self.pooled else 200,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": APPLICATION_NAME, **settings},
        )
        connection._loop = loop
        self._connection = connection

    async def _put_in_force(self) -> None:
        self._asked_at = time.monotonic()
        settings = self._limits.settings()
        await self._connection.execute("; ".join(f"SET {name} = '{value}'" for name, value in settings.items()))
        self._in_force = self._limits

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
        if self.pooled:
            return await self.fetch_apart(sql, *arguments)
        connection = self._ready()
        self.asked += 1
        rows: Sequence[Any] = await connection.fetch(sql, *arguments)
        self._note_answer()
        return rows

    async def fetch_apart(self, sql: str, *arguments: Any, within: float = inf) -> Sequence[Any]:
        """The same in a read-only transaction of its own, which undoes what the query sets for the session.

        Args:
            sql: the query.
            arguments: values of its `$1`, `$2`, …
            within: seconds that it may take, if that is less than `statement_timeout`.
        """
        connection = self._ready()
        self.asked += 3
        settings = self._limits.settings()
        settings["statement_timeout"] = _milliseconds(min(within, self._limits.statement_timeout))
        begin = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in settings.items())
        await connection.execute(f"BEGIN READ ONLY{begin}")
        try:
            rows: Sequence[Any] = await connection.fetch(sql, *arguments)
        finally:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
        self._note_answer()
        return rows

    def _ready(self) -> Any:
        if self._late is not None or self._connection is None:
            raise ConnectionAbortedError("the run is over")
        self._asked_at = time.monotonic()
        return self._connection

    def _note_answer(self) -> None:
        self.answered, self.last_answer = True, time.monotonic()

    async def during(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do this, and let the caller's deadline interrupt the waiting but not what the server was asked."""
        task = asyncio.ensure_future(work())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._late = task
                task.add_done_callback(_note_exception)
            raise

    async def settle(self, patience: float) -> None:
        """Wait for the answer that is outstanding, if one is.

        Args:
            patience: seconds to wait.

        Raises:
            StuckError: it is still to come.
        """
        if self._late is None:
            return
        done, _ = await asyncio.wait({self._late}, timeout=patience)
        if not done:
            raise StuckError
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

    def drop(self) -> None:
        """Drop the connection without a word: a server that hangs would not take leave."""
        self._terminate()
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _terminate(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class Sessions:
    """The sessions of this process, so that instances that ask the same database share one connection to it.

    The same is what has the same address, login, database and TLS options, letter by letter. A session lives as long
    as somebody uses it.
    """

    def __init__(self) -> None:
        self._all: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, Target], Session] = WeakValueDictionary()

    def join(self, target: Target) -> Session:
        """The session to this database, for one instance more; `part` takes it back."""
        key = (asyncio.get_running_loop(), target)
        session = self._all.get(key)
        if session is None:
            session = self._all[key] = Session(target)
        session.users += 1
        return session

    @staticmethod
    def part(session: Session) -> None:
        """One instance has no more need of it; the last one ends it."""
        session.users -= 1
        if not session.users:
            session.drop()


def _note_exception(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
