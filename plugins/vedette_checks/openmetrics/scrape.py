"""Asks an endpoint for its metrics."""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import httpx

from vedette import CheckError
from vedette.kit import HttpOptions, cut_text, tls_context
from vedette_checks.openmetrics.config import sendable

if TYPE_CHECKING:
    from vedette_checks.openmetrics.config import OpenMetricsConfig

_ACCEPT = "application/openmetrics-text;version=1.0.0;q=1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""Prometheus, "Content negotiation": what is understood, best first."""

_ONLY_GZIP = "only gzip is understood, which it was told"
_AT_ONCE = 1 << 18
"""Bytes that are unpacked at once: the length of what a server packs must not become memory."""


class Page(NamedTuple):
    """What an endpoint answered.

    Attributes:
        body: unpacked.
        openmetrics: whether it says that it is OpenMetrics.
    """

    body: bytes
    openmetrics: bool


class Scraper:
    """Keeps a connection to one endpoint. Follows no redirects: they could lead anywhere.

    Args:
        config: the instance's options.

    Raises:
        CheckError: the certificate files cannot be used.
    """

    def __init__(self, config: OpenMetricsConfig) -> None:
        self._config = config
        proxy = HttpOptions().proxy_for(config.url)
        self._client = httpx.AsyncClient(
            verify=tls_context(config, verify=config.verify),
            trust_env=False,  # else it reads proxies, and passwords from ~/.netrc, by rules of its own
            proxy=proxy,
            timeout=None,  # noqa: S113 - the run's own deadline ends it
            auth=(config.username, config.password.reveal()) if config.username and config.password else None,
            headers={
                "User-Agent": "vedette",
                "Accept": _ACCEPT,
                "Accept-Encoding": "gzip",
                **{name: value.reveal() for name, value in config.headers.items()},
            },
        )

    async def scrape(self) -> Page:
        """Ask once.

        Raises:
            CheckError: it cannot be reached, or answers something else.
        """
        most = self._config.max_body
        try:
            async with self._client.stream("GET", self._config.url, headers=await self._login()) as response:
                if response.status_code != 200:
                    raise _refused(response.status_code)
                body = bytearray()
                async for piece in _unpacked(response):
                    body += piece
                    if len(body) > most:
                        raise CheckError(f"the answer is longer than {most:,} bytes", hint="raise max_body, or see why")
                return Page(bytes(body), "openmetrics" in response.headers.get("Content-Type", ""))
        except httpx.HTTPError as error:
            raise _in_words(error, self._config.url) from error

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def _login(self) -> Mapping[str, str]:
        token, file = self._config.token, self._config.token_file
        if file is not None:
            try:
                read = (await asyncio.to_thread(file.read_text)).strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it holds no text"
                raise CheckError(f"token_file: {file}: {why}") from error
            if not sendable(read):
                raise CheckError(f"token_file: {file}: it holds something else than a token")
            return {"Authorization": f"Bearer {read}"}
        return {"Authorization": f"Bearer {token.reveal()}"} if token else {}


async def _unpacked(response: httpx.Response) -> AsyncIterator[bytes]:
    """The answer's bytes in small pieces: httpx unpacks whatever the network brings at once, a thousand times as much.

    Raises:
        CheckError: it is packed in another way than was asked for, or badly.
    """
    packed = response.headers.get("Content-Encoding", "").strip().lower()
    if packed in ("", "identity"):
        async for piece in response.aiter_raw():
            yield piece
        return
    if packed not in ("gzip", "x-gzip"):
        raise CheckError(f"the answer of {_place(response.url)} is packed as '{cut_text(packed, 40)}'", hint=_ONLY_GZIP)
    unpacker = _Gunzip()
    try:
        async for piece in response.aiter_raw():
            for part in unpacker.feed(piece):
                yield part
                await asyncio.sleep(0)
    except zlib.error as error:
        raise CheckError(f"the answer of {_place(response.url)} says that it is gzip, and is none") from error
    if not unpacker.ended:
        raise CheckError(f"the answer of {_place(response.url)} broke off")


class _Gunzip:
    """Unpacks gzip, also of several members, piece by piece."""

    def __init__(self) -> None:
        self.ended = False
        self._member = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes hold."""
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            yield self._member.decompress(data, _AT_ONCE)
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        self.ended = self._member.eof


def _refused(status: int) -> CheckError:
    hints = {
        401: "see username and password, token or token_file",
        403: "see username and password, token or token_file",
        404: "is this the path of the metrics?",
    }
    hint = "redirects are not followed: give the address itself" if 300 <= status < 400 else hints.get(status, "")
    return CheckError(f"the endpoint answered {status}", hint=hint)


def _place(url: httpx.URL) -> str:
    return f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def _in_words(error: httpx.HTTPError, url: str) -> CheckError:
    place = httpx.URL(url)
    where = _place(place)
    if not isinstance(error, httpx.ConnectError):
        return CheckError(f"the answer of {where} broke off ({type(error).__name__})")
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CheckError(f"the certificate of {where} is not valid: {cause.verify_message}", hint="see ca_file")
    if isinstance(cause, ssl.SSLError):
        why = (cause.reason or str(cause)).lower().replace("_", " ")
        return CheckError(f"{where} does not speak TLS as it should: {why}", hint="is it http instead of https?")
    if isinstance(cause, socket.gaierror):
        return CheckError(f"{place.host} has no address", hint="is the name right, and does the name server answer?")
    return CheckError(f"nothing accepts connections on {where}", hint="is the exporter up, and is this its port?")


def _cause(error: BaseException) -> BaseException | None:
    """The first error of the system below those of the libraries."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, ssl.SSLError | socket.gaierror):
        below = below.__cause__ or below.__context__
    return below
