"""Requests to the intake, and what its answers mean."""

from __future__ import annotations

import asyncio
import enum
import errno
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from vedette.kit import http_date, retry_after, ssl_context

if TYPE_CHECKING:
    import ssl

    from vedette.sinks.datadog.config import DatadogConfig

_CONNECTED = 5.0
_MOST_ANSWER = 64 * 1024


class Verdict(enum.Enum):
    """What an answer means for what was sent."""

    TAKEN = "taken"
    TOO_LARGE = "too large"
    REFUSED = "refused"
    KEY = "the API key is refused"
    CODING = "the encoding is refused"
    AGAIN = "to be tried again"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request.

    Attributes:
        verdict: what it means.
        status: of HTTP; 0 where there was no answer.
        what: the failure in words, without addresses; empty if it was taken.
        asked: seconds that the server asks to wait.
        clock: how far its clock is ahead, and how far off that may be, in seconds; None if it did not say.
        complaints: how many errors it names in an answer that says that all is well.
    """

    verdict: Verdict
    status: int = 0
    what: str = ""
    asked: float | None = None
    clock: tuple[float, float] | None = None
    complaints: int = 0


class Transport:
    """A client for one account; keys are in its headers and nowhere else.

    Args:
        config: the sink's options.

    Raises:
        OSError: `ca_file` or the proxy cannot be used.
    """

    def __init__(self, config: DatadogConfig) -> None:
        self._config = config
        context = ssl_context(ca_file=config.ca_file)
        mounts = {
            f"{url.scheme}://{url.netloc.decode()}": _by_way_of(proxy, context)
            for url in {httpx.URL(config.api), httpx.URL(config.logs)}
            if (proxy := config.proxy_for(str(url))) is not None
        }
        self._client = httpx.AsyncClient(
            verify=context,
            trust_env=False,  # else httpx reads proxies, and passwords from ~/.netrc, by rules of its own
            mounts=mounts,
            timeout=httpx.Timeout(config.timeout, connect=min(_CONNECTED, config.timeout)),
            headers={"DD-API-KEY": config.api_key.reveal().strip(), "User-Agent": "vedette"},
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def send(self, path: str, body: bytes, coding: str = "", *, logs: bool = False) -> Answer:
        """Post a body of JSON.

        Args:
            path: below the intake's address.
            body: encoded.
            coding: its content coding, empty for none.
            logs: send it to the intake for logs.
        """
        headers = {"Content-Type": "application/json"}
        if coding:
            headers["Content-Encoding"] = coding
        base = self._config.logs if logs else self._config.api
        return await self.ask("POST", f"{base}{path}", content=body, headers=headers)

    async def validate(self) -> Answer:
        """Ask whether the API key is good."""
        return await self.ask("GET", f"{self._config.api}/api/v1/validate")

    async def manage(self, method: str, path: str, content: bytes = b"") -> Answer:
        """A request that takes the application key too."""
        key = self._config.app_key.reveal().strip() if self._config.app_key is not None else ""
        headers = {"DD-APPLICATION-KEY": key, "Content-Type": "application/json"}
        return await self.ask(method, f"{self._config.api}{path}", content=content, headers=headers)

    async def ask(self, method: str, url: str, **options: Any) -> Answer:
        """Any request; never raises but for a cancellation, and never takes longer than `timeout`."""
        asked = time.time()
        try:
            async with asyncio.timeout(self._config.timeout):
                async with self._client.stream(method, url, **options) as response:
                    answer = _answer(response, asked, time.time())
                    return replace(answer, complaints=_complaints(await _read_a_little(response)))
        except TimeoutError:
            return Answer(Verdict.AGAIN, what=f"no answer within {self._config.timeout:g}s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Answer(Verdict.AGAIN, what=_in_words(error))
        except Exception as error:  # a proxy's or a library's odd answer must not end the sink
            return Answer(Verdict.AGAIN, what=f"the request failed ({type(error).__name__})")


def _by_way_of(proxy: str, context: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    try:
        way = httpx.Proxy(proxy, ssl_context=context if proxy.startswith("https:") else None)
        return httpx.AsyncHTTPTransport(verify=context, proxy=way)
    except Exception:  # whose text may hold the proxy's password; SOCKS takes a package of its own
        scheme = proxy.partition("://")[0]
        what = f"a proxy must be http://host:port or https://host:port; what is set has '{scheme}' and cannot be used"
        raise OSError(errno.EINVAL, what) from None


async def _read_a_little(response: httpx.Response) -> bytes:
    """Read the answer, so that its connection can be used again; a long one is not worth that."""
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > _MOST_ANSWER:
            break
    return bytes(body)


def _complaints(body: bytes) -> int:
    """How many `errors` an answer names (Datadog, API reference: `IntakePayloadAccepted`)."""
    if b'"errors"' not in body:
        return 0
    try:
        errors = msgspec.json.decode(body).get("errors")
    except (msgspec.DecodeError, AttributeError):
        return 0
    return len(errors) if isinstance(errors, list) else 0


def _answer(response: httpx.Response, asked: float, answered: float) -> Answer:
    verdict, what = _meaning(response.status_code)
    wait = retry_after(response.headers.get("Retry-After"))
    return Answer(verdict, response.status_code, what, wait, _clock(response.headers.get("Date"), asked, answered))


def _meaning(status: int) -> tuple[Verdict, str]:
    if 200 <= status < 300:
        return Verdict.TAKEN, ""
    if status in (401, 403):
        return Verdict.KEY, f"the API key is refused ({status})"
    if status == 400:
        return Verdict.REFUSED, "the intake refuses what was sent (400)"
    if status == 413:
        return Verdict.TOO_LARGE, "the intake finds a request too large (413)"
    if status == 415:
        return Verdict.CODING, "the intake refuses the encoding (415)"
    words = {408: "it waited too long for the request", 429: "it is asked too often", 404: "there is no such address"}
    why = words.get(status) or ("it has trouble" if status >= 500 else "an answer that makes no sense")
    return Verdict.AGAIN, f"the intake answered {status}: {why}"


def _clock(date: str | None, asked: float, answered: float) -> tuple[float, float] | None:
    """By a Date header, which is in whole seconds: (ahead, plus or minus)."""
    theirs = http_date(date)
    if theirs is None:
        return None
    return theirs + 0.5 - (asked + answered) / 2, 0.5 + (answered - asked) / 2


def _in_words(error: Exception) -> str:
    """A failure without a URL, a header or a body, any of which may hold a secret."""
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return "no connection in time"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ProxyError):
        return "the proxy refuses"
    if isinstance(error, httpx.ConnectError):
        return _connect_error(error)
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        return "the connection broke"
    return f"the request failed ({type(error).__name__})"


def _connect_error(error: httpx.ConnectError) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not valid"
    if "SSL" in text:
        return "TLS failed"
    if "Name or service" in text or "getaddrinfo" in text or "name resolution" in text or "nodename" in text:
        return "its name does not resolve"
    return "nothing takes connections there" if "refused" in text or "attempts failed" in text else "no connection"
