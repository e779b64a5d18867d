"""A real UDP port that keeps what it receives, for testing what is sent to a StatsD port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_LARGEST = 65_535
_BUFFER = 4 * 1024 * 1024


class UdpCapture:
    """Listens on a free UDP port of 127.0.0.1 until closed; use it as a context manager.

    A thread empties the socket, so that a busy event loop loses nothing, and a sender in the same thread, in another
    one or in another process is received alike.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        """The port to send to."""
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._receive, name="udp-capture", daemon=True)
        self._thread.start()

    @property
    def lines(self) -> list[str]:
        """The lines of all datagrams so far, in the order of arrival."""
        with self._lock:
            return list(self._lines)

    async def wait_for(self, what: int | Callable[[list[str]], bool], timeout: float = 5.0) -> list[str]:
        """Wait for so many lines in all, or until the predicate holds of them.

        Args:
            what: a number of lines, or a function of the lines so far.
            timeout: seconds.

        Returns:
            The lines so far.

        Raises:
            AssertionError: it did not happen in time; the text shows the last lines.
        """
        event = asyncio.Event()
        waiter = (asyncio.get_running_loop(), event)
        with self._lock:
            self._waiting.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                while not _holds(what, lines := self.lines):
                    await event.wait()
                    event.clear()
                return lines
        except TimeoutError:
            lines = self.lines
            tail = "".join(f"\n  {line}" for line in lines[-20:])
            raise AssertionError(f"not within {timeout:g} s; there are {len(lines)} lines{tail}") from None
        finally:
            with self._lock:
                self._waiting.discard(waiter)

    def clear(self) -> None:
        """Forget the lines so far."""
        with self._lock:
            self._lines.clear()

    def close(self) -> None:
        """Stop listening; the lines stay."""
        self._closing = True
        while self._thread.is_alive():  # again, should a full buffer have swallowed the first
            with contextlib.suppress(OSError):
                self._socket.sendto(b"", ("127.0.0.1", self.port))
            self._thread.join(0.5)
        self._socket.close()

    def __enter__(self) -> UdpCapture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> None:
        while True:
            packet = self._socket.recv(_LARGEST)
            if self._closing:
                return
            new = [line for line in packet.decode("utf-8", "replace").split("\n") if line]
            with self._lock:
                self._lines += new
                for loop, event in self._waiting:
                    with contextlib.suppress(RuntimeError):  # a loop that was closed while it waited
                        loop.call_soon_threadsafe(event.set)


def _holds(what: int | Callable[[list[str]], bool], lines: list[str]) -> bool:
    return len(lines) >= what if isinstance(what, int) else what(lines)
