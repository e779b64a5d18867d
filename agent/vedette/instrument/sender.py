"""Packs lines into packets and sends them over the socket of Datadog's client; for the client's thread alone."""

from __future__ import annotations

import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from datadog.dogstatsd.base import DogStatsd

from vedette.instrument.settings import Settings, say

_KEEP_FOR = 10.0  # seconds that lines are kept while there is no connection; later they would be of another time
_RETRY_AFTER = 0.5
_NO_HELP = 0.1
_STALLED = 0.5  # seconds that a full socket may hold up one packet
_MOVED_AFTER = 30.0  # seconds after which a name is looked up again where nobody listens: it may be elsewhere by now
_RESOLVE_AFTER = 300.0  # seconds after which a host's name is looked up again: UDP does not tell that it has moved
_CALM = 10.0
_BYTES_UDP, _BYTES_UNIX = 1432, 8192


class Sender:
    """Packs lines and sends the packets; for one thread.

    Args:
        settings: the target.
        close_by: until when all must be sent (monotonic time), once the application wants to end.
        pause: waits for so many seconds, or less if there is a reason to.
    """

    def __init__(
        self, settings: Settings, close_by: Callable[[], float | None], pause: Callable[[float], None]
    ) -> None:
        self.trouble = ""
        self._settings = settings
        self._close_by = close_by
        self._pause = pause
        self._client: Any = None
        self._connected = 0.0
        self._kind = socket.SOCK_DGRAM
        self._last_loss = 0.0
        self._no_help_before = 0.0
        self._reason = ""
        self.largest = _BYTES_UNIX if settings.socket_path else _BYTES_UDP

    def send(self, lines: Iterable[str]) -> tuple[int, int]:
        """Send lines; returns how many metrics were sent and how many lost."""
        sent = made = 0
        since = time.monotonic()

        def counted() -> Iterator[str]:
            nonlocal made
            for line in lines:
                made += line.count("\n") + 1
                yield line

        left = counted()
        for packet in packets(left, self.largest):
            if not self._connect(since):  # given up: the rest is not packed, which would hold the interpreter's lock
                break
            if self._transmit(packet):
                sent += packet.count(b"\n")
        for _ in left:
            pass
        return sent, made - sent

    def takes_help(self) -> bool:
        """Whether `offer` may be called now: by any thread, unlike all else here."""
        return self._kind == socket.SOCK_DGRAM and time.monotonic() >= self._no_help_before

    def offer(self, packet: bytes) -> bool | None:
        """Send a packet without waiting; False if it is lost, None if the socket is full or not there yet."""
        connection = None if self._client is None else self._client.socket
        try:
            if connection is not None:
                connection.send(packet)
                return True
        except BlockingIOError:
            pass
        except Exception:  # the thread will meet it too, and say what it is
            return False
        self._no_help_before = time.monotonic() + _NO_HELP
        return None

    def tell(self, lost: int, why: str = "") -> None:
        """Say in the log, once an outage, that metrics are lost, and when they are sent again.

        Args:
            lost: how many of the last ones were.
            why: a reason for losses that happened before they came here.
        """
        now = time.monotonic()
        if lost or why:
            self._last_loss = now
            if not self.trouble:
                self.trouble = f"{self._settings.target}: {why or self._reason}"
                say(logging.WARNING, "%s; metrics are dropped, and counted in stats()", self.trouble)
        elif self.trouble and now - self._last_loss > _CALM:  # UDP reports every other loss only
            self.trouble = ""
            say(logging.INFO, "%s: metrics are sent again", self._settings.target)

    def close(self) -> None:
        """Close the socket."""
        if self._client is not None:
            self._client.close_socket()

    def abandon(self) -> None:
        """Close the socket without the library's lock, which a thread may have held that a fork did not take along."""
        with suppress(Exception):
            self._client.socket.close()

    def _connect(self, since: float) -> bool:
        """Whether there is a socket; waits for one while the lines are still worth it."""
        while True:
            try:
                self._socket()
                return True
            except OSError as error:
                self._reason = error.strerror or type(error).__name__
            except Exception as error:  # a host name that cannot be encoded
                self._reason = type(error).__name__
            if self._close_by() is not None or time.monotonic() - since > _KEEP_FOR:
                return False
            self._pause(_RETRY_AFTER)

    def _socket(self) -> Any:
        settings = self._settings
        if self._client is None:
            # The library's part is the socket. Its own queue, buffer and tags stay unused: its fork hook waits for the
            # queue, its buffer takes a lock at every call, and it adds DD_ENV and the like a second time.
            self._client = DogStatsd(
                host=settings.host, port=settings.port, socket_path=settings.socket_path or None,
                disable_telemetry=True, origin_detection_enabled=False, disable_background_sender=True,
            )  # fmt: skip
            if settings.socket_path:
                self._client.socket_path = settings.socket_path
            else:
                self._client.socket_path, self._client.host, self._client.port = None, settings.host, settings.port
        if self._client.socket is not None and time.monotonic() - self._connected > _RESOLVE_AFTER:
            self._client.close_socket()
        if self._client.socket is None:
            opened = self._client.get_socket()
            self._kind = opened.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
            self._connected = time.monotonic()
        return self._client.socket

    def _transmit(self, packet: bytes) -> bool:
        """Send one packet; False if it is lost, with the reason."""
        data = struct.pack("<I", len(packet)) + packet if self._kind == socket.SOCK_STREAM else packet
        end = self._close_by()
        deadline = time.monotonic() + _STALLED if end is None else end
        try:
            connection = self._socket()
            while data:
                try:
                    data = data[connection.send(data) :]
                except BlockingIOError:
                    left = deadline - time.monotonic()
                    if left <= 0 or not _writable(connection, left):
                        self._reason = "the receiver does not keep up"
                        if self._kind == socket.SOCK_STREAM:  # a part of a packet cannot be taken back
                            self._client.close_socket()
                        return False
            return True
        except Exception as error:
            self._reason = getattr(error, "strerror", None) or type(error).__name__
            if not self._is_deaf(error):
                with suppress(Exception):
                    self._client.close_socket()
            return False

    def _is_deaf(self, error: Exception) -> bool:
        """Whether nobody listened to an earlier UDP packet, in which case the same socket is as good as a new one."""
        refused = isinstance(error, ConnectionRefusedError) and not self._settings.socket_path
        return refused and time.monotonic() - self._connected < _MOVED_AFTER


def _writable(connection: socket.socket, seconds: float) -> bool:
    """Wait until a full socket takes something; `select` would refuse descriptors over 1023."""
    if not hasattr(select, "poll"):
        return bool(select.select((), (connection,), (), seconds)[1])
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def packets(lines: Iterable[str], largest: int) -> Iterator[bytes]:
    """Lines in as few packets as they fit in, each line ended by a newline; a longer line is a packet of its own."""
    waiting: list[bytes] = []
    size = 0
    for text in lines:
        data = text.encode("utf-8", "replace")
        for line in (data,) if len(data) < largest // 4 else data.split(b"\n"):
            if waiting and size + len(line) + 1 > largest:
                yield b"\n".join((*waiting, b""))
                waiting, size = [], 0
            waiting.append(line)
            size += len(line) + 1
    if waiting:
        yield b"\n".join((*waiting, b""))
