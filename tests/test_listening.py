"""Servers of tests leave nothing behind, at whatever moment of an acceptance they end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from listening import listening
from servers import Certificates, http_server

pytestmark = pytest.mark.anyio


def reading(files: Certificates) -> AbstractAsyncContextManager[int]:
    return listening(_read)


def reading_over_tls(files: Certificates) -> AbstractAsyncContextManager[int]:
    return listening(_read, tls=files.server_side())


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@asynccontextmanager
async def speaking_http(files: Certificates) -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    async with http_server("GET", "/", answer) as url:
        yield int(url.rpartition(":")[2])


Starting = Callable[[Certificates], AbstractAsyncContextManager[int]]


@pytest.mark.parametrize("start", [reading, reading_over_tls, speaking_http])
async def test_whoever_is_connected_or_about_to_be_is_cut_off_at_the_end(tmp_path: Path, start: Starting) -> None:
    files = Certificates.make(tmp_path)
    for turns in range(6):  # accepted, a task begun, the transport made, the protocol told, the handler begun
        callers = [socket.socket() for _ in range(2)]
        async with start(files) as port:
            for caller in callers:
                caller.connect(("127.0.0.1", port))
            for _ in range(turns):
                await asyncio.sleep(0)
        for caller in callers:
            with caller, suppress(ConnectionResetError):
                caller.settimeout(20)
                assert caller.recv(1) == b""
