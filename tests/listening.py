"""Servers inside a test that leave no connection behind: not one that was being accepted when they ended either.

asyncio's own `Server.close` leaves the connections alone, and what is accepted at that moment to nobody: the garbage
collector finds it in a later test, which fails.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def stop_accepting(server: asyncio.Server) -> None:
    """Close it to newcomers; whoever was let in already is connected afterwards."""
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(3):  # a task makes the transport, which tells its protocol in the step after
        await asyncio.sleep(0)
    server.close()


async def cut_off(server: asyncio.Server) -> None:
    """Abort all connections that it accepted, TLS handshakes among them, and wait until their sockets are closed."""
    while left := _accepted(server):
        for transport in left:
            transport.abort()
        await asyncio.sleep(0)


def _accepted(server: asyncio.Server) -> list[asyncio.Transport]:
    transports = list(vars(asyncio.get_running_loop())["_transports"].values())  # nothing public knows those of TLS
    return [one for one in transports if one._server is server]  # until its socket is closed


@asynccontextmanager
async def ending(server: asyncio.Server) -> AsyncIterator[int]:
    """The port of a server, which ends with all its connections."""
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await stop_accepting(server)
        await cut_off(server)


@asynccontextmanager
async def listening(handler: Handler, *, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[int]:
    """The port of a server on loopback with this handler, whose calls end with it, as do the connections."""
    calls: set[asyncio.Task[Any]] = set()

    async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(call(reader, writer))
        calls.add(task)
        task.add_done_callback(calls.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", port, ssl=tls)
    async with ending(server) as at:
        try:
            yield at
        finally:
            await stop_accepting(server)
            for task in list(calls):
                task.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
