"""What came back for a request, and how long each part of it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
import msgspec


class NoJsonError(ValueError):
    """The body is not JSON; the text says so, without the body."""


@dataclass(slots=True)
class Phases:
    """Seconds of each part of a request, redirects added up; None for a part that did not take place.

    Attributes:
        dns: looking the host name up.
        connect: TCP connection.
        tls: TLS handshake.
        first_byte: from the connection to the response's headers.
        transfer: the response's body.
        stage: what was going on last: dns, connect, tls, or the request itself.
    """

    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = None
    transfer: float | None = None
    stage: str = "request"

    def add(self, name: str, seconds: float) -> None:
        """Note that a part took so long, beside what it took before a redirect."""
        setattr(self, name, (getattr(self, name) or 0.0) + seconds)


@dataclass
class Answer:
    """A complete response.

    Attributes:
        status: HTTP status code.
        headers: of the last response, after redirects.
        body: decoded, at most `max_body` bytes.
        phases: how long each part took.
        expires: Unix seconds at which the server's certificate ends; None without TLS or without verification.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    phases: Phases = field(default_factory=Phases)
    expires: float | None = None

    @cached_property
    def text(self) -> str:
        """The body as text; what does not decode is replaced."""
        charset = httpx.Response(200, headers=self.headers).charset_encoding or "utf-8"
        try:
            return self.body.decode(charset, "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    @cached_property
    def json(self) -> Any:
        """The body as JSON.

        Raises:
            NoJsonError: it is none.
        """
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NoJsonError("the body is empty" if not self.body else "the body is no JSON") from None
        except RecursionError:
            raise NoJsonError("the body's JSON is nested too deep") from None
