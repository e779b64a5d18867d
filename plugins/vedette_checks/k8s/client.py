"""Requests to an API server: bodies that are read to their end, and bodies that are read as they come."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from vedette import CheckError
from vedette_checks.k8s.access import Access
from vedette_checks.k8s.errors import ApiError, Fault, broken, refusal

Query = dict[str, str]
T = TypeVar("T")

_CONNECT = 5.0  # seconds
_MOST = 64 << 20  # bytes of a body that is read as a whole
_MOST_OF_A_REFUSAL = 1 << 16
FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class Stream:
    """The parts of a body, not aligned to anything.

    Args:
        parts: they.
        answer: what they are the body of.
    """

    def __init__(self, parts: AsyncIterator[bytes], answer: aiohttp.ClientResponse) -> None:
        self._parts = parts
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts

    async def rest(self, seconds: float) -> None:
        """Let what comes gather in the kernel, so that twenty events a second do not wake the process twenty times."""
        connection = self._answer.connection
        transport = connection.transport if connection is not None else None
        if not seconds or not isinstance(transport, asyncio.ReadTransport) or transport.is_closing():
            return
        transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            transport.resume_reading()


class Client:
    """Requests to one API server; all reactions to failures are the caller's.

    Args:
        access: the way to it.
        compression: ask for compressed bodies.
    """

    def __init__(self, access: Access, *, compression: bool = False) -> None:
        self.access = access
        self.requests = 0
        """Requests sent so far."""
        self.received = 0
        """Bytes of bodies received so far."""
        self.certificate_expires: float | None = None
        """Unix seconds at which the server's certificate ends; None without TLS, or if it is not verified."""
        self._headers = {"Accept": "application/json", "Accept-Encoding": "gzip" if compression else "identity"}

    async def get(self, path: str, query: Query | None = None, *, patience: float = 10.0) -> bytes:
        """The body of an answer, read to its end.

        Args:
            path: path of the request, or a whole address.
            query: its query.
            patience: seconds for all of it.

        Raises:
            ApiError: no answer, or a refusal. CheckError: the configuration cannot be used any more.
        """

        async def once(patience: float) -> bytes:
            timeout = aiohttp.ClientTimeout(total=patience, sock_connect=_CONNECT)
            async with self._answer("GET", target(path, query), timeout) as answer:
                return await self._whole(answer)

        return await with_new_login(self.access, once, patience)

    async def post(self, path: str, body: Any, *, patience: float = 10.0) -> bytes:
        """Send JSON and return the answer's body; for access reviews, which change nothing. Raises as `get`."""
        return await self._send("POST", path, body, patience)

    async def write(
        self,
        method: Literal["POST", "PUT", "DELETE"],
        path: str,
        body: Any,
        query: Query | None = None,
        *,
        patience: float,
    ) -> bytes:
        """Change an object and return the answer's body.

        A PUT and a DELETE may be sent twice: aiohttp does so where a kept connection turns out to be closed.

        Args:
            method: POST creates, PUT replaces.
            path: path of the request.
            body: the object as JSON, or for DELETE its options.
            query: its query.
            patience: seconds for all of it.

        Raises:
            ApiError, CheckError: as `get`. Without an answer it may have happened nevertheless.
        """
        return await with_new_login(
            self.access, lambda left: self._send(method, target(path, query), body, left), patience
        )

    async def _send(self, method: str, path: str, body: Any, patience: float) -> bytes:
        timeout = aiohttp.ClientTimeout(total=patience, sock_connect=_CONNECT)
        async with self._answer(method, path, timeout, body) as answer:
            return await self._whole(answer)

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query, *, silence: float, answer: float | None = None
    ) -> AsyncIterator[Stream]:
        """A body that is read as it comes.

        Args:
            path: path of the request.
            query: its query.
            silence: seconds without a byte after which the connection counts as dead.
            answer: seconds until the body must begin, if that is to be sooner: what is frozen takes connections, too.

        Raises:
            ApiError, CheckError: as `get`; also while parts are taken.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=silence)
        async with self._answer("GET", target(path, query), timeout, within=answer) as begun:
            yield Stream(self._parts(begun), begun)

    async def _parts(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        async for part in answer.content.iter_any():
            self.received += len(part)
            yield part

    async def _whole(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in self._parts(answer):
            body += part
            if len(body) > _MOST:
                raise ApiError(Fault.INVALID, f"an answer of more than {_MOST >> 20} MB")
        return bytes(body)

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, timeout: aiohttp.ClientTimeout, body: Any = None, within: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        self.requests += 1
        try:
            async with asyncio.timeout(within):
                answer = await self._sent(method, url, timeout, body)
            try:
                self._look_at_certificate(answer)
                if answer.status >= 400:
                    raise refusal(answer.status, await _beginning(answer), answer.headers)
                yield answer
            finally:
                answer.close() if not answer.content.is_eof() else answer.release()
        except FAILURES as error:
            raise broken(error) from None

    async def _sent(self, method: str, url: str, timeout: aiohttp.ClientTimeout, body: Any) -> aiohttp.ClientResponse:
        try:
            return await self.access.request(method, url, self._headers, timeout, body)
        except FAILURES:
            raise
        except ValueError as error:  # an address that is none, a token that fits in no header
            raise CheckError(f"the cluster's address or token cannot be used ({type(error).__name__})") from None

    def _look_at_certificate(self, answer: aiohttp.ClientResponse) -> None:
        connection = answer.connection
        transport = connection.transport if connection is not None else None
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        certificate = tls.getpeercert() if tls is not None else None
        until = certificate.get("notAfter") if certificate else None
        if isinstance(until, str) and same_origin(answer.url, URL(self.access.server)):
            self.certificate_expires = float(ssl.cert_time_to_seconds(until))


async def with_new_login(access: Access, once: Callable[[float], Awaitable[T]], patience: float) -> T:
    """Make a request, and once more if token and certificates were changed, which it may be the first to notice.

    Args:
        access: who the agent is.
        once: makes the request, in so many seconds.
        patience: seconds for both.

    Raises:
        ApiError, CheckError: what `once` raises, or `Access.open`.
    """
    begun = time.monotonic()
    try:
        return await once(patience)
    except ApiError as error:
        left = patience - (time.monotonic() - begun)
        if error.fault not in (Fault.UNAUTHORIZED, Fault.UNTRUSTED) or left <= 0 or not await access.renew(begun):
            raise
    return await once(left)


def same_origin(one: URL, other: URL) -> bool:
    """Whether two addresses lead to one server; `URL.origin()` tells one with the usual port from one without."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    async for part in answer.content.iter_any():
        text += part
        if len(text) >= _MOST_OF_A_REFUSAL:
            break
    return bytes(text)


def target(path: str, query: Query | None) -> str:
    """Path and query of a request, quoted as the API server's own clients do."""
    if not query:
        return path
    return path + "?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
