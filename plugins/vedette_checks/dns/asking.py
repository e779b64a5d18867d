"""Asks one server one question, over UDP or TCP.

The messages are dnspython's. How they travel is ours: its own way loads an HTTP client where one is installed, and its
sockets are open to everybody, so that a server that is not there is not noticed.
Source: RFC 1035, section 4.2; RFC 5452, section 9 (what an answer must match).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import dns.exception
import dns.flags
import dns.message

from vedette import CheckError

_AGAIN = 2.0
"""Seconds until a question is repeated: packets are lost, and every resolver asks again."""
_LARGEST = 65_535
_MOST_STRAYS = 1_000
_MUCH = 4_096
_T = TypeVar("_T")


async def ask(
    query: dns.message.QueryMessage, server: str, port: int, transport: str, patience: float
) -> dns.message.Message:
    """The server's answer.

    Args:
        query: the question.
        server: its IP address.
        port: its port.
        transport: `udp`, which turns to TCP for an answer that was cut short, or `tcp`.
        patience: seconds that all of it may take.

    Raises:
        CheckError: there was none, or none that fits the question.
    """
    stray = _Stray(min(_AGAIN, patience / 2.5))
    try:
        async with asyncio.timeout(patience):
            if transport == "udp":
                answer = await _over_udp(query, server, port, stray)
                if not answer.flags & dns.flags.TC:
                    return answer
            return await _over_tcp(query, server, port)
    except TimeoutError:
        raise CheckError(stray.reason) from None
    except OSError as error:
        known = os.strerror(error.errno).lower() if error.errno else "no connection"
        raise CheckError(known) from error


class _Stray:
    """Packets that are no answer to the question: they may be forged, so the true one is waited for.

    Args:
        again: seconds until the question is repeated.
    """

    def __init__(self, again: float) -> None:
        self.again = again
        self._number = 0

    @property
    def reason(self) -> str:
        """Why there is no answer."""
        return f"no answer, but {self._number} packets that answer something else" if self._number else "no answer"

    async def passed(self) -> None:
        """One more came; others get their turn, however fast they come.

        Raises:
            CheckError: they are too many.
        """
        self._number += 1
        if self._number >= _MOST_STRAYS:
            raise CheckError(self.reason)
        await asyncio.sleep(0)


async def _over_udp(query: dns.message.QueryMessage, server: str, port: int, stray: _Stray) -> dns.message.Message:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    loop, wire = asyncio.get_running_loop(), query.to_wire()
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (server, port))  # the kernel lets in what comes from there, and no other
        while True:
            await loop.sock_sendall(connection, wire)
            with suppress(TimeoutError):
                async with asyncio.timeout(stray.again):
                    while True:
                        packet = await loop.sock_recv(connection, _LARGEST)
                        if (answer := await _in_turn(_fitting, query, packet)) is not None:
                            return answer
                        await stray.passed()


async def _in_turn(parse: Callable[..., _T], *arguments: Any) -> _T:
    """Parse what came; much of it in a thread, since a thousand records take a tenth of a second."""
    if len(arguments[-1]) > _MUCH:
        return await asyncio.to_thread(parse, *arguments)
    return parse(*arguments)


def _fitting(query: dns.message.QueryMessage, packet: bytes) -> dns.message.Message | None:
    """A packet as an answer to the question, maybe one that was cut short; None if it is something else."""
    try:
        answer = dns.message.from_wire(packet, ignore_trailing=True, raise_on_truncation=True)
    except dns.message.Truncated as error:  # its question may be cut off too
        cut: dns.message.Message = error.message()  # type: ignore[no-untyped-call]
        return cut if cut.id == query.id and cut.flags & dns.flags.QR else None
    except (dns.exception.DNSException, ValueError):
        return None
    return answer if query.is_response(answer) else None


def _whole(wire: bytes) -> dns.message.Message:
    return dns.message.from_wire(wire, ignore_trailing=True)


async def _over_tcp(query: dns.message.QueryMessage, server: str, port: int) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(server, port)
    try:
        wire = query.to_wire()
        writer.write(struct.pack("!H", len(wire)) + wire)
        await writer.drain()
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        answer = await _in_turn(_whole, await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        raise CheckError("the server closed the connection without an answer") from None
    except (dns.exception.DNSException, ValueError):
        raise CheckError("what came over TCP is no DNS message") from None
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # the transport closes its socket at the loop's next turn
    if not query.is_response(answer):
        raise CheckError("what came over TCP answers something else")
    return answer
