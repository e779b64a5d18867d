"""What can go wrong in talking to an API server, by what has to be done about it."""

from __future__ import annotations

import enum
import errno
import ssl
from collections.abc import Mapping

import aiohttp
import msgspec

from vedette.kit import cut_text

_LONGEST = 300
_LOOKED_AT = 8_000
_LONGEST_WAIT = 300.0  # seconds: no proxy's Retry-After puts a watch to sleep for a day


class Fault(enum.Enum):
    """Kinds of failure, each with a reaction of its own."""

    UNREACHABLE = "unreachable"
    """No answer: nothing listens, the connection broke, time ran out. Try again with a growing pause."""
    UNTRUSTED = "untrusted"
    """TLS failed: the certificates do not fit; perhaps they were changed."""
    UNAUTHORIZED = "unauthorized"
    """401: the server does not know the token; perhaps it was changed."""
    FORBIDDEN = "forbidden"
    """403: a rule is missing. Look again now and then."""
    ABSENT = "absent"
    """404: the server does not have this resource."""
    EXPIRED = "expired"
    """410: the resourceVersion or continue token is too old. List anew."""
    AHEAD = "ahead"
    """504 about a resourceVersion of the future: etcd was restored, or it is another cluster. List anew."""
    BUSY = "busy"
    """429, 5xx: overloaded or half down. Wait as long as it says."""
    INVALID = "invalid"
    """4xx else: the server does not understand the request, for instance because it is older."""


class ApiError(Exception):
    """A request that failed.

    Args:
        fault: what kind.
        message: the server's or the system's sentence, without secrets.
        status: HTTP status, or code of an ERROR event; 0 without an answer.
        retry_after: seconds that the server asks to wait; None if it does not say.
        token: the continue token that a 410 offers.
    """

    def __init__(
        self, fault: Fault, message: str, *, status: int = 0, retry_after: float | None = None, token: str = ""
    ) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.status = status
        self.retry_after = retry_after
        self.token = token


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct, rename="camel"):
    causes: list[_Cause] | None = None
    retry_after_seconds: int = 0


class _ListMeta(msgspec.Struct):
    token: str = msgspec.field(default="", name="continue")


class StatusObject(msgspec.Struct):
    """What of a metav1.Status is used (Kubernetes API conventions, "Response Status Kind")."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None
    metadata: _ListMeta | None = None


_STATUS = msgspec.json.Decoder(StatusObject)


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The error that an HTTP answer from 400 on stands for; the body may be a Status, plain text or nothing."""
    try:
        told = _STATUS.decode(body)
    except msgspec.MsgspecError:  # plain text, as for an absent API group and under overload
        told = StatusObject(message=body[:_LOOKED_AT].decode("utf-8", "replace").strip())
    return of_status(told, status, _seconds(headers.get("Retry-After")))


def of_event(raw: bytes | memoryview) -> ApiError:
    """The error that an ERROR event of a watch carries: HTTP said 200 before."""
    try:
        told = _STATUS.decode(raw)
    except msgspec.MsgspecError:
        told = StatusObject(message="an ERROR event without a Status")
    return of_status(told, told.code or 500, None)


def of_status(told: StatusObject, status: int, retry_after: float | None) -> ApiError:
    """The error that a Status stands for."""
    details = told.details or _Details()
    if retry_after is None and details.retry_after_seconds:
        retry_after = float(details.retry_after_seconds)
    causes = {cause.reason for cause in details.causes or ()}
    return ApiError(
        _fault(status, told, causes),
        cut_text(told.message, _LONGEST) or f"HTTP {status}",
        status=status,
        retry_after=None if retry_after is None else min(retry_after, _LONGEST_WAIT),
        token=told.metadata.token if told.metadata is not None else "",
    )


def _fault(status: int, told: StatusObject, causes: set[str]) -> Fault:
    if status == 401:
        return Fault.UNAUTHORIZED
    if status == 403:  # also what a quota says, to whoever creates something
        return Fault.INVALID if "exceeded quota" in told.message else Fault.FORBIDDEN
    if status == 404:
        return Fault.ABSENT
    if status == 410 or told.reason == "Expired":
        return Fault.EXPIRED
    if "ResourceVersionTooLarge" in causes or told.message.startswith("Timeout: Too large resource version"):
        return Fault.AHEAD
    if status == 429 or status >= 500:
        return Fault.BUSY
    return Fault.INVALID


def broken(error: Exception) -> ApiError:
    """What a failed connection or a timeout amounts to."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        cause = getattr(error, "certificate_error", error)
        why = getattr(cause, "verify_message", "") or "verification failed"
        return ApiError(Fault.UNTRUSTED, f"its certificate cannot be trusted: {why}")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return ApiError(Fault.UNTRUSTED, "TLS failed: is it an https address, and are the certificates right?")
    if isinstance(error, TimeoutError):
        return ApiError(Fault.UNREACHABLE, "no answer in time")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ApiError(Fault.UNREACHABLE, "its host name does not resolve")
    if isinstance(error, aiohttp.ClientConnectorError):
        return ApiError(Fault.UNREACHABLE, _unconnected(error))
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return ApiError(Fault.UNREACHABLE, "it closed the connection without an answer")
    return ApiError(Fault.UNREACHABLE, "the connection broke")


def _unconnected(error: aiohttp.ClientConnectorError) -> str:
    place, why = f"{error.host}:{error.port}", error.os_error.strerror or ""
    if error.os_error.errno == errno.ECONNREFUSED or why.startswith(("Connect call failed", "Multiple exceptions")):
        return f"nothing listens on {place}"  # asyncio's words for it, which name each address
    return f"no way to {place}: {why or type(error.os_error).__name__}"


def _seconds(header: str | None) -> float | None:
    """A Retry-After in seconds; the API server never sends the form with a date."""
    if header is None or not header.strip().isdecimal():
        return None
    return float(header)
