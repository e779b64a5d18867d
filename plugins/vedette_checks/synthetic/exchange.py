"""One request and its answer: redirects followed with care, the body limited, every failure one sentence."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpcore
import httpx
import msgspec

from vedette_checks.synthetic.answer import Answer, Phases
from vedette_checks.synthetic.options import SAFE
from vedette_checks.synthetic.request import Request
from vedette_checks.synthetic.transport import Reach, UnresolvedError, Wire

_MOST_REDIRECTS = 10
_BEFORE = frozenset({"dns", "connect", "tls"})
_CARRIED = frozenset({"accept", "accept-encoding", "accept-language", "cache-control", "user-agent"})
"""Headers that go along to another host."""
_DECODERS = {"gzip": 47, "x-gzip": 47, "deflate": 47}  # window bits of zlib: 32 + 15 finds out which it is
_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpx.HTTPError,
    httpx.InvalidURL,
    OSError,
)
_STAGES = {
    "dns": "the host name was being looked up",
    "connect": "the connection was being made",
    "tls": "the TLS handshake was going on",
}


class UnansweredError(Exception):
    """A request that brought no usable answer.

    Args:
        message: why, in a sentence; `{}` stands for `host`.
        hint: how to mend it.
        host: a name that may come from a server.
        reached: whether the server may have got the request.
        tls: whether the certificate is the reason.
    """

    def __init__(
        self, message: str, hint: str = "", *, host: str = "", reached: bool = True, tls: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.host = host
        self.reached = reached
        self.tls = tls
        self.phases: Phases | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every exchange of a flow.

    Attributes:
        follow: follow redirects.
        max_body: most bytes of a body, before and after decoding.
    """

    follow: bool
    max_body: int


class Caller:
    """Makes requests, one after another, with the cookies of one flow attempt.

    Args:
        reach: how servers are reached.
        rules: what holds for every exchange.
    """

    def __init__(self, reach: Reach, rules: Rules) -> None:
        self._rules = rules
        self._wire = Wire(reach)
        self._client = httpx.AsyncClient(
            transport=self._wire,
            timeout=None,  # noqa: S113 - one deadline holds for the whole step
            trust_env=False,
            headers={"User-Agent": "vedette (synthetic)", "Accept-Encoding": "gzip, deflate"},
        )

    async def call(self, request: Request, timeout: float) -> Answer:
        """Send a request and read its answer.

        Raises:
            UnansweredError: there is none, or none that could be used.
        """
        phases = self._wire.phases = Phases()
        self._wire.expires = None
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(self._build(request))
        except UnansweredError as found:
            failure = found
        except TimeoutError:
            doing = _STAGES.get(phases.stage, "the answer was awaited")
            reached = phases.stage not in _BEFORE
            failure = UnansweredError(f"no answer within {timeout:.3g}s: {doing}", reached=reached)
        except _FAILURES as error:
            failure = _failure(error, phases)
        failure.phases = phases
        raise failure from None

    def _build(self, request: Request) -> httpx.Request:
        content: Any = request.body.encode() if request.body is not None else None
        headers = httpx.Headers([(name.encode(), value.encode()) for name, value in request.headers.items()])
        if request.json is not None:
            content = msgspec.json.encode(request.json)
            headers.setdefault("Content-Type", "application/json")
        try:
            return self._client.build_request(
                request.method,
                request.url,
                params=httpx.URL(request.url).params.merge(dict(request.query)) if request.query else None,
                headers=headers,
                content=content,
                data=dict(request.form) if request.form is not None else None,
            )
        except (httpx.InvalidURL, ValueError, TypeError):
            raise UnansweredError("the address or a header is not valid once filled in", reached=False) from None

    async def _follow(self, request: httpx.Request) -> Answer:
        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                following = response.next_request if self._rules.follow else None
                if following is None:
                    return await self._read(response)
            finally:
                await response.aclose()
            request = _careful(request, following)
        raise UnansweredError(f"more than {_MOST_REDIRECTS} redirects")

    async def _read(self, response: httpx.Response) -> Answer:
        begun, limit, parts, size = monotonic(), self._rules.max_body, [], 0
        async for part in response.aiter_raw():
            parts.append(part)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
        phases = self._wire.phases
        phases.add("transfer", monotonic() - begun)
        body = _decoded(b"".join(parts), response.headers.get("content-encoding", ""), limit)
        return Answer(response.status_code, response.headers, body, phases, self._wire.expires)

    def forget(self) -> None:
        """Throw the cookies away."""
        self._client.cookies.clear()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def _careful(request: httpx.Request, following: httpx.Request) -> httpx.Request:
    """A redirect as it may be followed: another host gets no body, and no header that could hold a secret.

    Raises:
        UnansweredError: it must not be followed.
    """
    if following.url.scheme not in ("http", "https"):
        raise UnansweredError("redirected to an address that is not http")
    one, other = request.url, following.url
    upgraded = (one.scheme, other.scheme, one.port, other.port) == ("http", "https", None, None)
    if one.host == other.host and (upgraded or (one.scheme, one.port) == (other.scheme, other.port)):
        return following
    if following.method not in SAFE:
        raise UnansweredError(
            "redirected to another host, {}, which must not get the body",
            "send the request there itself",
            host=other.host,
        )
    for name in set(following.headers) - _CARRIED - {"host", "cookie"}:
        del following.headers[name]
    return following


def _too_large(limit: int) -> UnansweredError:
    return UnansweredError(f"the body has more than {limit} bytes", "raise `max_body`")


def _decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its Content-Encoding (RFC 9110, 8.4); a bomb is not unpacked.

    Raises:
        UnansweredError: it is too large, damaged, or encoded in a way that was not asked for.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity") or not body:
        return body
    if encoding not in _DECODERS:
        raise UnansweredError("the body is encoded in a way that was not asked for")
    unpacker = zlib.decompressobj(_DECODERS[encoding])
    try:
        made = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise UnansweredError("the compressed body is damaged") from None
    if len(made) > limit:
        raise _too_large(limit)
    if not unpacker.eof:
        raise UnansweredError("the compressed body ends too soon")
    return made


def _failure(error: BaseException, phases: Phases) -> UnansweredError:
    """Why there is no answer, in a sentence without anything that the server sent."""
    reached = phases.stage not in _BEFORE and not isinstance(error, httpcore.ProxyError | httpcore.ConnectError)
    if isinstance(error, UnresolvedError):
        return UnansweredError("the host name {} does not resolve", "check the address", host=error.host, reached=False)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = "renew it" if cause.verify_code == 10 else "see `ca_file` and the host name"
            return UnansweredError(
                f"the certificate is not valid: {cause.verify_message}", hint, reached=False, tls=True
            )
        if isinstance(cause, ssl.SSLError):
            reason = (cause.reason or "it failed").replace("_", " ").lower()
            return UnansweredError(f"no TLS connection: {reason}", reached=reached)
        if isinstance(cause, ConnectionRefusedError):
            return UnansweredError("the connection was refused", "does something listen there?", reached=False)
    if isinstance(error, httpcore.ProxyError):
        return UnansweredError("the proxy refused the connection", "see `proxy`", reached=False)
    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        what = "TLS handshake" if phases.stage == "tls" else "connection"
        return UnansweredError(f"the {what} failed", reached=False)
    if isinstance(error, httpcore.LocalProtocolError):
        return UnansweredError("a header or the address has characters that HTTP does not allow", reached=False)
    if isinstance(error, httpcore.RemoteProtocolError):
        return UnansweredError("the answer is no HTTP, or ends too soon", reached=reached)
    if isinstance(error, httpx.RemoteProtocolError | httpx.InvalidURL):
        return UnansweredError("redirected to an address that is not valid", reached=reached)
    return UnansweredError("the connection broke", reached=reached)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
