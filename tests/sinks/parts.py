"""What the tests of the sinks share: batches, a sink at work behind its real outbox, and ports that keep packets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from vedette import Batch, Kind, Sample
from vedette.outbox import Outbox, supervise
from vedette.sink import Sink

HERE = socket.gethostname()
START = 1_700_000_000.0


def batch(*samples: Sample, at: float = START, instance: str = "redis/main", host: str = HERE, **rest: Any) -> Batch:
    return Batch(instance, instance.partition("/")[0], at, rest.pop("interval", 10.0), host, samples, **rest)


def sample(name: str, kind: Kind, value: Any, *tags: str, at: float | None = None) -> Sample:
    return Sample(name, kind, value, tags, at)


async def until(condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}")
        await asyncio.sleep(0.005)


@asynccontextmanager
async def running(sink: Sink[Any], limit: int = 100_000) -> AsyncIterator[Outbox]:
    """The sink as the agent runs it; at the end it is flushed and stopped."""
    outbox = Outbox(limit)
    task = asyncio.create_task(supervise(sink, outbox))
    try:
        yield outbox
        outbox.close()
        async with asyncio.timeout(30):
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])


class Port:
    """A datagram or stream socket whose packets are kept, each as it was sent. A context manager.

    Args:
        path: of a unix socket; None is a free UDP port of 127.0.0.1.
        stream: the unix socket is a stream of packets, each behind its length.
        port: UDP port to listen on.
    """

    def __init__(self, path: Path | None = None, *, stream: bool = False, port: int = 0) -> None:
        family = socket.AF_INET if path is None else socket.AF_UNIX
        self._socket = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        self._stream = stream
        self._path = path
        self._address: Any = ("127.0.0.1", port) if path is None else str(path)
        self._socket.bind(self._address)
        if stream:
            self._socket.listen()
        if path is None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
            self._address = self._socket.getsockname()
        self.number: int = self._address[1] if path is None else 0
        self.packets: list[bytes] = []
        self._closing = False
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._accept if stream else self._receive, daemon=True)
        self._thread.start()

    @property
    def lines(self) -> list[str]:
        return [line for packet in list(self.packets) for line in packet.decode().splitlines()]

    async def wait_for(self, count: int) -> list[str]:
        """The lines, once there are this many."""
        await until(lambda: len(self.lines) >= count, f"{count} lines")
        return self.lines

    def _receive(self) -> None:
        while True:
            packet = self._socket.recv(65_535)
            if self._closing:
                return
            self.packets.append(packet)

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self._connection = connection
            with connection, connection.makefile("rb") as reader:
                while not self._closing and (head := reader.read(4)):
                    self.packets.append(reader.read(struct.unpack("<I", head)[0]))
            if self._closing:
                return

    def close(self) -> None:
        self._closing = True
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        while self._thread.is_alive():
            with contextlib.suppress(OSError), socket.socket(self._socket.family, self._socket.type) as knock:
                knock.connect(self._address)
                if not self._stream:
                    knock.send(b"")
            self._thread.join(0.2)
        self._socket.close()
        if self._path is not None:
            self._path.unlink()

    def __enter__(self) -> Port:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
