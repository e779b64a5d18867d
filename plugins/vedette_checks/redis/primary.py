"""The server that has the fleet's records, found by address, by sentinels or in a cluster; connections to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from redis import exceptions

from vedette import EngineUnavailable
from vedette_checks.redis.address import Address, ServerOptions
from vedette_checks.redis.findings import Finding
from vedette_checks.redis.nodes import UNREACHABLE, OptionAdvisor
from vedette_checks.redis.search import Search, search_for
from vedette_checks.redis.session import Command, Replies, Session

_AT_ONCE = 4  # connections
_HOPS = 5  # redirections of a cluster
_IN_SCRIPT = re.compile(r"executing the script|ACL failure in script")
"""What a server says where a user may run scripts and not what is in them: Redis 6, Redis 7 and Valkey."""
_PAUSE = 0.05  # seconds, where a cluster asks for patience


class Refused(Exception):
    """An error reply.

    Args:
        error: the reply.
        command: the command's name in lower case, or empty.
    """

    def __init__(self, error: Exception, command: str = "") -> None:
        super().__init__(str(error))
        self.error = error
        self.command = command


@dataclass(slots=True)
class Attempt:
    """One request, and how far it came, for the sentence that says why it failed.

    Attributes:
        address: the server that was asked last.
        greeted: whether it had answered on this connection before.
    """

    address: Address
    greeted: bool = False


class Primary:
    """The server that has the fleet's records. It may be another one after a failover.

    Args:
        options: where to look for it and how to log in.
        key: a key that it has.
        patience: seconds for a request with all that belongs to it.
    """

    def __init__(self, options: ServerOptions, key: str, patience: float) -> None:
        self._options = options
        self._key = key
        self._patience = patience
        self._search: Search = search_for(options, key, patience)
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._searching = asyncio.Lock()
        self._address: Address | None = None
        self._found = 0.0
        self._idle: list[tuple[Address, Session]] = []

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[Attempt]:
        """A request: what happens inside it ends in time, and fails with a sentence for people.

        Raises:
            EngineUnavailable: it failed.
        """
        attempt = Attempt(self._address or self._options.address)
        try:
            async with asyncio.timeout(self._patience):
                yield attempt
        except (*UNREACHABLE, Refused) as error:
            raise EngineUnavailable(str(self.why(error, attempt))) from error

    async def ask(self, commands: Sequence[Command], attempt: Attempt) -> list[Any]:
        """The replies to commands, the first of which says by its key where it belongs; goes where it is sent.

        An error reply is an exception among them.

        Raises:
            redis.exceptions.RedisError, OSError, EOFError: there is no talking to the server.
        """
        async with self._gate:
            address = await self.where(attempt)
            asking: list[Command] = []
            replies: list[Any] = []
            for _ in range(_HOPS):
                replies = (await self._exchange(address, [*asking, *commands], attempt))[len(asking) :]
                turn, asking = replies[0], []
                if isinstance(turn, exceptions.TryAgainError):
                    await asyncio.sleep(_PAUSE)
                elif isinstance(turn, exceptions.AskError):  # of which MOVED is one
                    address = replace(address, host=turn.host or address.host, port=turn.port)
                    if isinstance(turn, exceptions.MovedError):
                        self._address = address
                    else:
                        asking = [("ASKING",)]
                elif isinstance(turn, exceptions.ReadOnlyError) and self._search.follows:
                    self._address, before = None, address
                    if (address := await self.where(attempt)) == before:
                        break
                else:
                    break
            return replies

    async def where(self, attempt: Attempt) -> Address:
        """Where the server is, as far as known; looked for where it is not, or where that is some time ago.

        Raises:
            EngineUnavailable: nobody says where it is.
        """
        async with self._searching:
            if self._address is None or monotonic() - self._found > self._search.lasts:
                self._address = await self._search.find(self._address)
                self._found = monotonic()
            attempt.address = self._address
            return self._address

    async def _exchange(self, address: Address, commands: Sequence[Command], attempt: Attempt) -> list[Any]:
        session = self._take(address)
        attempt.address, attempt.greeted = address, session.greeted
        replies = Replies()
        try:
            await session.exchange(commands, replies)
        except BaseException:
            attempt.greeted = session.greeted
            session.close()
            if self._address == address and self._search.follows:
                self._address = None
            raise
        self._idle.append((address, session))
        return replies.values

    def _take(self, address: Address) -> Session:
        while self._idle:
            home, session = self._idle.pop()
            if home == address:
                return session
            session.close()
        return Session(self._options, address)

    async def news(self, channel: str) -> AsyncGenerator[None, None]:
        """Yields once the channel is subscribed to, and at each of its messages.

        Raises:
            EngineUnavailable: there are no more.
        """
        async with self.attempt() as attempt:
            session = Session(self._options, await self.where(attempt))
        try:
            async for _ in session.listen(channel, self._patience):
                yield
        except UNREACHABLE as error:
            attempt.greeted = session.greeted
            raise EngineUnavailable(str(self.why(error, attempt))) from error
        finally:
            session.close()

    def close(self) -> None:
        """Drop the connections."""
        while self._idle:
            self._idle.pop()[1].close()

    def why(self, error: Exception, attempt: Attempt) -> Finding:
        """What is wrong when a request failed so."""
        advisor = OptionAdvisor(attempt.address, self._patience, self._search.options)
        if isinstance(error, exceptions.ReadOnlyError):
            error = Refused(error)
        if not isinstance(error, Refused):
            return advisor.failure(error, greeted=attempt.greeted)
        if isinstance(error.error, exceptions.ReadOnlyError):
            return Finding(
                f"{attempt.address} is a replica, which keeps no records", "give its primary, or its sentinels"
            )
        if _IN_SCRIPT.search(str(error)):
            user = attempt.address.username or "default"
            return Finding(f"the user {user} lacks rights to the fleet's records", "`vedette doctor` says which")
        return advisor.refusal(error.error, error.command, self._key.rpartition(":")[0] + ":*")
