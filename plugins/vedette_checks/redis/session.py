"""One connection to one server, kept between runs, with pipelines as lists of commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic, perf_counter
from typing import Any

from redis import exceptions
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.credentials import CredentialProvider

from vedette.kit import ssl_context
from vedette_checks.redis.address import Address, ServerOptions

Command = tuple[str | bytes | int | float, ...]
"""A command's name and arguments."""


@dataclass(slots=True)
class Replies:
    """What came back for a pipeline; shorter than it if the connection failed in between.

    Attributes:
        values: a reply for each command; an error reply is an exception among them.
        times: seconds from sending to each reply.
    """

    values: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class _Maker(CredentialProvider):
    """What the client asks for a user and a password whenever it connects."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def get_credentials(self) -> tuple[str, str]:
        """Never called: this client is asynchronous."""
        raise NotImplementedError

    async def get_credentials_async(self) -> tuple[str, str]:
        """User and password."""
        return await self._address.credentials()


class Session:
    """The connection to one server.

    It uses the client's connection class directly: its pool, retries and pipelines cost more than the server's work,
    and a check needs one connection and must not wait through retries that its deadline does not allow for.

    Args:
        config: the options, for the certificates.
        address: where the server is and how to log in.

    Raises:
        OSError: a certificate file cannot be read, or ssl.SSLError: it holds none.
    """

    def __init__(self, config: ServerOptions, address: Address) -> None:
        options: dict[str, Any] = {
            "db": address.db,
            "username": address.username or None,
            "password": address.password or None,
            "socket_timeout": None,  # one deadline holds for the whole run
            "socket_connect_timeout": None,
            "protocol": 2,  # HELLO, which RESP3 begins with, is refused by old servers, proxies and minimal users
        }
        if address.minted is not None:
            options |= {"username": None, "password": None, "credential_provider": _Maker(address)}
        self._lasts = inf if address.minted is None else address.minted.lasts
        self._ends = inf
        self._connection: Any  # the client's types leave much open
        if address.path:
            self._connection = UnixDomainSocketConnection(path=address.path, **options)
        elif address.tls:
            self._connection = SSLConnection(host=address.host, port=address.port, **options)
            self._connection.ssl_context.context = ssl_context(  # the client would make one for every connection
                ca_file=config.ca_file, cert_file=config.cert_file, key_file=config.key_file, verify=config.verify
            )
        else:
            self._connection = Connection(host=address.host, port=address.port, **options)
        for introduction in ("lib_name", "lib_version", "driver_info"):  # CLIENT SETINFO would swallow what a server
            setattr(self._connection, introduction, None)  # says first, for instance that it is in protected mode

        self.greeted = False
        """Whether the server has answered on this connection."""
        self.asked = 0
        """Commands sent so far, but for those of logging in."""

    async def exchange(self, commands: Sequence[Command], replies: Replies) -> None:
        """Send all commands at once and collect the replies into `replies`.

        A kept connection that turns out to be closed (the server restarted, an idle timeout) is replaced once.

        Raises:
            redis.exceptions.RedisError, OSError: no connection, or it failed; what was received is in `replies`.
        """
        if monotonic() >= self._ends:
            self.close()  # a new one logs in with a new password before the server would end this one
        if self._connection.is_connected:
            try:
                await self._exchange(commands, replies)
                return
            except (exceptions.ConnectionError, OSError):
                if replies.values:
                    raise
            self.close()
        await self._exchange(commands, replies)

    async def _exchange(self, commands: Sequence[Command], replies: Replies) -> None:
        connection = self._connection
        if not connection.is_connected:
            await self._connect()
        packed = connection.pack_commands(commands)
        self.asked += len(commands)
        started = perf_counter()
        await connection.send_packed_command(packed, check_health=False)
        for _ in commands:
            try:
                reply = await connection.read_response(disconnect_on_error=False)
            except exceptions.ResponseError as error:
                reply = error
            replies.values.append(reply)
            replies.times.append(perf_counter() - started)

    async def _connect(self) -> None:
        connection = self._connection
        await connection.connect()
        self._ends = monotonic() + self._lasts
        await connection.send_command("CLIENT", "SETNAME", "vedette", check_health=False)
        try:
            await connection.read_response(disconnect_on_error=False)
        except exceptions.ResponseError as error:  # the name is but a courtesy to whoever reads CLIENT LIST
            if "DENIED" in str(error):
                raise
        self.greeted = True

    async def listen(self, channel: str, silence: float) -> AsyncIterator[None]:
        """Yields once the channel is subscribed to, and at each of its messages.

        Args:
            channel: its name.
            silence: seconds without a message after which the server is pinged; after as many more it counts as gone.

        Raises:
            redis.exceptions.RedisError, OSError: no connection, or it failed; TimeoutError: the server is silent.
        """
        connection = self._connection
        async with asyncio.timeout(silence):
            if not connection.is_connected:
                await self._connect()
            await connection.send_command("SUBSCRIBE", channel, check_health=False)
        pinged = False
        while True:
            try:
                async with asyncio.timeout(silence):
                    message = await connection.read_response(disconnect_on_error=False)
            except TimeoutError:
                if pinged:
                    raise
                pinged = True
                await connection.send_command("PING", check_health=False)
                continue
            pinged = False
            if message[0] != b"pong":
                yield

    def close(self) -> None:
        """Drop the connection without waiting for the server, which may hang."""
        self.greeted = False
        connection = self._connection
        writer = connection._writer
        if writer is not None:  # the client's own disconnect says goodbye, and over TLS waits for the answer
            writer.transport.abort()
            connection._close()
