"""Floor 1: sends alerts over HTTP: one client for each notifier, and failures in words that hold no secret."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from vedette.errors import Undelivered
from vedette.probes import probe_tcp, probe_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    import httpx

    from vedette.advice import Diagnosis
    from vedette.outgoing import HttpOptions

_MOST_ANSWER = 64 * 1024
_LONGEST_WAIT = 600.0
_PORTS = {"https": 443, "http": 80}


class Reply(NamedTuple):
    """What a receiver answered.

    Attributes:
        status: of HTTP.
        body: at most its first 64 KiB.
        after: seconds that it asks to wait; None if it does not say.
    """

    status: int
    body: bytes
    after: float | None


class Courier:
    """Posts to one receiver. Neither its address nor a header is ever part of an error.

    Args:
        options: how it is reached.
        who: what it is called in errors, such as `PagerDuty`.
        context: makes the TLS context, so that siblings share one.
    """

    def __init__(self, options: HttpOptions, who: str, context: Callable[..., ssl.SSLContext]) -> None:
        self._options = options
        self._who = who
        self._context = context
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close its connections; the next request makes new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Reply:
        """Post a body.

        Args:
            url: where to.
            content: encoded.
            headers: beside User-Agent.

        Returns:
            The answer, whatever its status.

        Raises:
            Undelivered: there was none, within `timeout`.
        """
        import httpx

        try:
            async with asyncio.timeout(self._options.timeout):
                client = self._client or self._connect(url)
                async with client.stream("POST", url, content=content, headers=dict(headers)) as response:
                    body = await _read_a_little(response)
            return Reply(response.status_code, body, retry_after(response.headers.get("Retry-After")))
        except TimeoutError:
            raise Undelivered(f"{self._who} does not answer within {self._options.timeout:g}s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Undelivered(f"{self._who}: {_in_words(error)}") from None
        except Undelivered:
            raise
        except Exception as error:  # of a library, whose text may hold the address
            raise Undelivered(f"{self._who}: the request failed ({type(error).__name__})") from None

    def refusal(self, reply: Reply, why: str = "") -> Undelivered:
        """The error for an answer that is no success: 408, 429 and 5xx, and what credentials or addresses cause, again.

        Args:
            reply: the answer.
            why: what its body says, in words without secrets.
        """
        again = reply.status in (401, 403, 404, 407, 408, 410, 425, 429) or reply.status >= 500 or reply.status < 400
        known = {401: "it does not accept the credentials", 403: "it does not allow that", 413: "it is too large",
                 404: "there is no such address", 429: "it is asked too often"}.get(reply.status, "")  # fmt: skip
        text = ": ".join(part for part in (f"{self._who} answered {reply.status}", why or known) if part)
        return Undelivered(text, again=again, after=reply.after)

    async def reach(self, url: str, diagnosis: Diagnosis, patience: float = 3.0) -> bool:
        """For doctor: whether a connection, and TLS, can be had; sends nothing."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
        proxy = self._options.proxy_for(url)
        if proxy is not None:
            way = urlsplit(proxy)
            diagnosis.info("proxy", f"{host} is reached by way of {way.hostname}")
            return await probe_tcp(diagnosis, way.hostname or "", way.port or _PORTS.get(way.scheme, 80), patience)
        try:
            context = self._context(ca_file=self._options.ca_file)
        except OSError as error:
            diagnosis.failed("ca_file", f"cannot be used: {error.strerror or type(error).__name__}", "see the path")
            return False
        if not await probe_tcp(diagnosis, host, port, patience):
            return False
        if parts.scheme == "http":
            if host not in ("127.0.0.1", "::1", "localhost"):
                diagnosis.warning("TLS", f"{host} is spoken to without it", "write https where it is spoken")
            return True
        return await probe_tls(diagnosis, host, port, context, patience=patience)

    def _connect(self, url: str) -> httpx.AsyncClient:
        import httpx

        context = self._context(ca_file=self._options.ca_file)
        proxy = self._options.proxy_for(url)
        try:
            way = httpx.Proxy(proxy, ssl_context=context if proxy.startswith("https:") else None) if proxy else None
            self._client = httpx.AsyncClient(
                verify=context,
                trust_env=False,  # else httpx reads proxies, and passwords from ~/.netrc, by rules of its own
                proxy=way,
                timeout=httpx.Timeout(self._options.timeout, connect=min(5.0, self._options.timeout)),
                headers={"User-Agent": "vedette"},
            )
        except (ValueError, ImportError):
            raise Undelivered("the proxy cannot be used; it must be http://host:port or https://host:port") from None
        return self._client


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, at most 600; None if there is none.

    Source: RFC 9110, 10.2.3: a number of seconds, or a date.

    Args:
        value: the header.
        now: Unix seconds; None is the present.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = http_date(value)
        if moment is None:
            return None
        seconds = moment - (time.time() if now is None else now)
    return min(max(0.0, seconds), _LONGEST_WAIT) if math.isfinite(seconds) else None


def http_date(value: str | None) -> float | None:
    """Unix seconds of a date in a header; None if it is none."""
    try:
        moment = parsedate_to_datetime(value or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):  # a year or a zone that no calendar has
        return None


async def _read_a_little(response: Any) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > _MOST_ANSWER:
            break
    return b"".join(parts)[:_MOST_ANSWER]


def _in_words(error: Exception) -> str:
    """A failure without a URL, a header or a body, any of which may hold a secret."""
    import httpx

    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not valid"
    if "SSL" in text:
        return "TLS failed"
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return "no connection in time"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ProxyError):
        return "the proxy refuses"
    if any(word in text for word in ("Name or service", "getaddrinfo", "name resolution", "nodename")):
        return "its name does not resolve"
    if isinstance(error, httpx.ConnectError):
        return "nothing takes connections there" if "refused" in text or "attempts failed" in text else "no connection"
    if isinstance(error, httpx.TransportError):
        return "the connection broke"
    return f"the request failed ({type(error).__name__})"
