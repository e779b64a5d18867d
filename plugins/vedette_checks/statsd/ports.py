"""The sockets: UDP and unix datagrams, read without waiting for each, and streams of framed packets."""

from __future__ import annotations

import asyncio
import inspect
import resource
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vedette_checks.statsd.binding import identity, remove_own

Take = Callable[[bytes, str], None]
"""Takes a packet, and whose it is where the packet does not say so."""

LONGEST_FRAME = 65_535
"""Bytes of a packet in a stream; Datadog's clients make 8,192 at most."""

MOST_CONNECTIONS = 1_024
"""Connections of a stream socket at a time, or half of the files that the agent may open if that is less."""

_LARGEST = 65_535
_MOST_AT_ONCE = 256  # datagrams between two turns of the event loop
_MOST_BYTES_AT_ONCE = 128 << 10
_BUSY = 0.0005  # seconds between two wake-ups below which a look now and then is cheaper
_PAUSE = 0.001
_PATIENCE = 3  # looks in vain before it waits to be woken up again
_SO_MEMINFO = 55  # asm-generic/socket.h, Linux 4.12
_MEMINFO = struct.Struct("=9I")  # linux/sock_diag.h: SK_MEMINFO_*, of which the last is DROPS
_LENGTH = struct.Struct("<I")


class Port:
    """One datagram socket, bound.

    Args:
        bound: the socket.
        label: the tag's value: `udp` or `unixgram`.
        path: the socket's file, or None.
        local: whether senders have no address worth asking for.
    """

    def __init__(self, bound: socket.socket, label: str, path: Path | None = None, *, local: bool = True) -> None:
        self.socket = bound
        self.label = label
        self.path = path
        self.packets = self.bytes = 0
        self._local = local
        self._place = str(path) if path is not None else str(bound.getsockname()[0])
        self._dropped = self.dropped_in_all() or 0
        self._identity = identity(path) if path is not None else None
        self._last = 0.0
        self._vain = 0
        self._timer: asyncio.Handle | None = None

    def start(self, take: Take) -> None:
        """Have every packet taken from now on, on the running loop; `pause` comes after."""
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.socket, self._woken)

    def pause(self) -> None:
        """Take no more; what comes waits in the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove_reader(self.socket)

    def drain(self, most: int = _MOST_AT_ONCE) -> bool:
        """Take what is there, up to so many packets; returns whether that was all."""
        if not self._local:
            return self._receive_from_all(most)
        packets: list[bytes] = []
        size, emptied = self._receive(packets, most)
        if packets:  # as if they were one: a call for each would cost more than the line of a small one
            self.packets += len(packets)
            self.bytes += size
            self._take(b"\n".join(packets), self._place)
        return emptied

    def _receive(self, packets: list[bytes], most: int) -> tuple[int, bool]:
        receive, keep = self.socket.recv, packets.append
        size = 0
        try:
            while len(packets) < most and size < _MOST_BYTES_AT_ONCE:
                packet = receive(_LARGEST)
                keep(packet)
                size += len(packet)
        except OSError:  # nothing is there, or an error that the kernel had noted before
            return size, True
        return size, False

    def _receive_from_all(self, most: int) -> bool:
        size = number = 0
        try:
            while number < most and size < _MOST_BYTES_AT_ONCE:
                packet, sender = self.socket.recvfrom(_LARGEST)
                self.packets += 1
                self.bytes += len(packet)
                size += len(packet)
                number += 1
                self._take(packet, sender[0])
        except OSError:
            return True
        return False

    def _woken(self) -> None:
        """The loop says that something is there. If that happens very often, look now and then instead.

        A wake-up costs more than several packets do. Not so for unix sockets: their senders wait when ten are queued.
        """
        now = time.monotonic()
        busy = now - self._last < _BUSY and self.path is None
        self._last = now
        self.drain()
        if busy:
            self._loop.remove_reader(self.socket)
            self._vain = 0
            self._timer = self._loop.call_later(_PAUSE, self._look)

    def _look(self) -> None:
        before = self.packets
        emptied = self.drain()
        self._vain = 0 if self.packets > before else self._vain + 1
        if self._vain > _PATIENCE:
            self._timer = None
            self._loop.add_reader(self.socket, self._woken)
        elif emptied:
            self._timer = self._loop.call_later(_PAUSE, self._look)
        else:
            self._timer = self._loop.call_soon(self._look)

    def dropped_in_all(self) -> int | None:
        """Packets that the kernel had no room for since the socket was made; None where it does not tell."""
        try:
            return int(_MEMINFO.unpack(self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[-1])
        except (OSError, struct.error):
            return None

    def dropped(self) -> int | None:
        """How many more these are than when this was last asked."""
        now = self.dropped_in_all()
        if now is None:
            return None
        news, self._dropped = (now - self._dropped) % (1 << 32), now
        return news

    def close(self) -> None:
        """Close the socket, and remove its file if it still is its own."""
        self.socket.close()
        if self.path is not None:
            remove_own(self.path, self._identity)


class StreamServer:
    """A unix socket for streams: packets, each after its length in four bytes, least first.

    Args:
        path: the socket's file.
        bound: the socket, listening.
    """

    label = "unixstream"

    def __init__(self, bound: socket.socket, path: Path) -> None:
        self.socket = bound
        self.path = path
        self.packets = self.bytes = self.crowded_out = 0
        self._most = min(MOST_CONNECTIONS, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._identity = identity(path)
        self._server: asyncio.Server | None = None
        self._connections = OrderedDict[_Connection, None]()  # the one that said something last is last

    async def start(self, take: Take, refuse: Callable[[bytes, str, str], None]) -> None:
        """Serve; `refuse` gets what is no frame, why, and whose it is."""
        self._take, self._refuse = take, refuse
        loop = asyncio.get_running_loop()
        own = self.socket.dup()  # the loop closes what it is given; this one may be handed on
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=own, **_keeping_the_file(loop))

    def pause(self) -> None:
        """Serve no more; connections are closed, new ones wait."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.close()

    def admit(self, connection: _Connection) -> None:
        """Note a connection; where there are too many, the one that has been idle for longest makes room."""
        if len(self._connections) >= self._most:
            idlest, _ = self._connections.popitem(last=False)
            idlest.close()
            self.crowded_out += 1
        self._connections[connection] = None

    def heard(self, connection: _Connection) -> None:
        """A connection says something."""
        if connection in self._connections:  # not one that was made to end, with something left to say
            self._connections.move_to_end(connection)

    def forget(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._connections.pop(connection, None)

    def packet(self, packet: bytes) -> None:
        """Take a packet."""
        self.packets += 1
        self.bytes += len(packet)
        self._take(packet, str(self.path))

    def refuse(self, frame: bytes, why: str) -> None:
        """What is no frame."""
        self._refuse(frame, why, str(self.path))

    def close(self) -> None:
        """Close the socket, and remove its file if it still is its own."""
        self.socket.close()
        remove_own(self.path, self._identity)


def _keeping_the_file(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """From Python 3.13 on a loop removes the file of a server that it closes; a successor goes on with the socket."""
    known = inspect.signature(loop.create_unix_server).parameters
    return {"cleanup_socket": False} if "cleanup_socket" in known else {}


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: StreamServer) -> None:
        self._server = server
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have it admitted."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is none of asyncio's classes
        self._server.admit(self)

    def data_received(self, data: bytes) -> None:
        """Take the packets that are complete."""
        self._server.heard(self)
        data = self._rest + data
        at, end = 0, len(data)
        while end - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            if length > LONGEST_FRAME:
                self._server.refuse(data[at : at + 64], "a stream's packet begins with its length, up to 65535")
                self.close()
                self._rest = b""
                return
            if end - at - _LENGTH.size < length:
                break
            start = at + _LENGTH.size
            at = start + length
            self._server.packet(data[start:at])
        self._rest = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it; what is left of a packet is malformed."""
        self._server.forget(self)
        if self._rest:
            self._server.refuse(self._rest, "the connection ended within a packet")

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()
