"""A relay that goes silent: connections stay, and nothing comes, as behind a firewall that drops packets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from listening import listening


class SilentProxy:
    """Passes on what comes to a port on 127.0.0.1, and what comes back, until told otherwise.

    Attributes:
        port: where it listens.
        requests: whether requests are passed on; what is held is lost.
        replies: whether replies are.
    """

    def __init__(self, to: int) -> None:
        self.port = 0
        self.requests = self.replies = True
        self._to = to
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back, "requests"), self._pump(there, writer, "replies"))
        finally:
            back.transport.abort()
            self._writers -= {writer, back}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if getattr(self, direction):
                    sink.write(data)
                    await sink.drain()
        sink.close()

    def speak(self, requests: bool = True, replies: bool = True) -> None:
        """Say what is passed on from now on. Connections that lost something are cut where all is passed on again."""
        was_whole = self.requests and self.replies
        self.requests, self.replies = requests, replies
        if requests and replies and not was_whole:
            self.cut()

    def cut(self) -> None:
        """End all connections."""
        for writer in list(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def silent_proxy(to: int) -> AsyncIterator[SilentProxy]:
    """A proxy to this port, inside a test."""
    proxy = SilentProxy(to)
    async with listening(proxy.serve) as proxy.port:
        yield proxy
