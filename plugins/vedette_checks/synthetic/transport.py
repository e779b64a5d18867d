"""Connections that say how long each part of them took: httpx over httpcore, with name resolution as a step of its own.

httpx has no hook for DNS, and its own transport lets nobody see a handshake; httpcore's network backend is the public
place for both.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

import httpcore
import httpx

from vedette_checks.synthetic.answer import Phases


@dataclass(frozen=True, slots=True)
class Reach:
    """How servers are reached.

    Attributes:
        tls: the context of TLS connections.
        http2: offer HTTP/2.
        proxy: URL of an HTTP proxy, empty for none.
        keep: use a connection for several requests of a flow.
    """

    tls: ssl.SSLContext
    http2: bool = False
    proxy: str = ""
    keep: bool = False


class UnresolvedError(httpcore.ConnectError):
    """A host name has no address.

    Args:
        host: the name.
    """

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


class Wire(httpx.AsyncBaseTransport):
    """The transport of one flow attempt. Its requests are made one after another; `phases` is about the current one.

    Args:
        reach: how servers are reached.
    """

    def __init__(self, reach: Reach) -> None:
        self.phases = Phases()
        self.expires: float | None = None
        """Unix seconds at which the certificate of the last TLS connection ends."""
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=reach.tls,
            proxy=_proxy(reach.proxy) if reach.proxy else None,
            max_keepalive_connections=None if reach.keep else 0,
            http2=reach.http2,
            network_backend=_Backend(self),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the response's body is still to be read. Raises httpcore's exceptions."""
        url, phases = request.url, self.phases
        phases.stage = "request"
        begun, before = monotonic(), _connecting(phases)
        response = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
            )
        )
        phases.add("first_byte", monotonic() - begun - (_connecting(phases) - before))
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


def _connecting(phases: Phases) -> float:
    return (phases.dns or 0.0) + (phases.connect or 0.0) + (phases.tls or 0.0)


def _proxy(url: str) -> httpcore.Proxy:
    parsed = httpx.URL(url)
    auth = (parsed.username.encode(), parsed.password.encode()) if parsed.userinfo else None
    bare = httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=b"/")
    return httpcore.Proxy(bare, auth=auth)


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._response.aclose()


class _Backend(httpcore.AsyncNetworkBackend):
    """Opens connections with each part timed."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._inner = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = [host] if _is_address(host) else await self._resolve(host, port)
        phases = self._wire.phases
        phases.stage = "connect"
        begun = monotonic()
        try:
            stream = await self._connect(addresses, port)
        finally:
            phases.add("connect", monotonic() - begun)
        phases.stage = "request"
        return _Stream(stream, self._wire)

    async def _resolve(self, host: str, port: int) -> list[str]:
        phases = self._wire.phases
        phases.stage = "dns"
        begun = monotonic()
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError):
            raise UnresolvedError(host) from None
        finally:
            phases.add("dns", monotonic() - begun)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def _connect(self, addresses: list[str], port: int) -> httpcore.AsyncNetworkStream:
        """The first address that takes the connection, in the order of the resolver (RFC 6724 sorts them)."""
        for last, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            try:
                return await self._inner.connect_tcp(address, port, timeout=_TRY_NEXT if last else None)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not last:
                    raise
        raise UnresolvedError("")


_TRY_NEXT = 2.0  # seconds for an address that has others behind it


class _Stream(httpcore.AsyncNetworkStream):
    """A connection whose TLS handshake is timed."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, wire: Wire) -> None:
        self._wire = wire
        self._inner = inner
        self.read = inner.read  # type: ignore[method-assign]  # on the hot path: no detour
        self.write = inner.write  # type: ignore[method-assign]

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        phases = self._wire.phases
        phases.stage = "tls"
        begun = monotonic()
        try:
            stream = await self._inner.start_tls(ssl_context, server_hostname, None)
        finally:
            phases.add("tls", monotonic() - begun)
        phases.stage = "request"
        self._wire.expires = _end_of_certificate(stream)
        return _Stream(stream, self._wire)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _end_of_certificate(stream: httpcore.AsyncNetworkStream) -> float | None:
    connection = stream.get_extra_info("ssl_object")
    certificate = connection.getpeercert() if connection is not None else None
    until = certificate.get("notAfter") if certificate else None  # an unverified one is not parsed by Python
    return float(ssl.cert_time_to_seconds(until)) if isinstance(until, str) else None
