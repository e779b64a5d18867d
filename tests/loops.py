"""An event loop for tests, at whose end no socket of a test's server is left for a later test to trip over."""

from __future__ import annotations

import asyncio
import selectors
import socket
from typing import Any

_OTHERS = ("vedette", "uvicorn")
"""Modules whose servers must close by themselves what they accepted: a test would show that they do not."""


class TidyLoop(asyncio.SelectorEventLoop):
    """Closes what was accepted while, or just before, its server was closed.

    asyncio forgets a connection that is accepted in the step in which its server closes, and one whose handler is
    cancelled by the end of the loop: both are found by the garbage collector, in the middle of another test.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        self._nobodys: set[socket.socket] = set()
        self._accepted: list[Any] = []

    def _accept_connection2(self, protocol_factory: Any, conn: socket.socket, *more: Any, **options: Any) -> Any:
        self._nobodys.add(conn)
        return super()._accept_connection2(protocol_factory, conn, *more, **options)  # type: ignore[misc]

    def _make_socket_transport(self, sock: Any, protocol: Any, *more: Any, **options: Any) -> Any:
        self._refuse(sock, options)
        made = super()._make_socket_transport(sock, protocol, *more, **options)  # type: ignore[misc]
        self._note(made, sock, protocol, options)
        return made

    def _make_ssl_transport(self, rawsock: Any, protocol: Any, *more: Any, **options: Any) -> Any:
        self._refuse(rawsock, options)
        made = super()._make_ssl_transport(rawsock, protocol, *more, **options)  # type: ignore[misc]
        self._note(made, rawsock, protocol, options)
        return made

    def _refuse(self, sock: socket.socket, options: dict[str, Any]) -> None:
        server = options.get("server")
        if server is not None and not server.sockets:
            self._nobodys.discard(sock)
            sock.close()
            raise ConnectionAbortedError("the server has closed meanwhile")

    def _note(self, transport: Any, sock: socket.socket, protocol: Any, options: dict[str, Any]) -> None:
        self._nobodys.discard(sock)
        handler = getattr(protocol, "_client_connected_cb", None) or type(protocol)
        if options.get("server") is not None and not handler.__module__.startswith(_OTHERS):
            self._accepted = [one for one in self._accepted if not _closed(one)]
            self._accepted.append(transport)

    def close(self) -> None:
        """Close it, and what is left of the connections that tests' servers accepted."""
        if not self.is_closed() and not self.is_running():
            left = [one for one in self._accepted if not _closed(one)]
            for transport in left:
                transport.abort()
            for _ in range(3 if left else 0):  # the ends of TLS take a step more
                self.call_soon(self.stop)
                self.run_forever()
            for sock in self._nobodys:
                sock.close()
        self._accepted.clear()
        self._nobodys.clear()
        super().close()


def _closed(transport: Any) -> bool:
    raw = getattr(transport, "_ssl_protocol", None)
    raw = transport if raw is None else raw._transport
    return raw is None or raw._sock is None
