"""Who may ask for what, before the page itself sees a request: host name, password, token; and the security headers."""

from __future__ import annotations

import hmac
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vedette.config import HttpConfig

SECURITY: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
PROBES: Final = ("/healthz", "/readyz")
"""Paths without a password: a kubelet has none."""


class Guard:
    """Wraps the page's application.

    Args:
        app: the application.
        options: `http:` of agent.yaml.
        host: the agent's host name.
    """

    def __init__(self, app: ASGIApp, options: HttpConfig, host: str) -> None:
        self._app = app
        self._options = options
        self._names = {"localhost", socket.gethostname().lower(), host.lower(), *map(str.lower, options.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(scope["method"], scope["path"], Headers(scope=scope)) or self._app
        await answer(scope, receive, guarded)

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        if not self._knows(headers.get("host", "")):
            return PlainTextResponse(
                "This page is not known under that name; `hosts` of http: in agent.yaml lists names.\n", 421
            )
        if method == "POST":
            return self._refused_action(headers.get("authorization", ""))
        if path in PROBES or self._options.admits(headers.get("authorization", "")):
            return None
        return PlainTextResponse(
            "user name and password, please\n", 401, {"www-authenticate": 'Basic realm="vedette", charset="UTF-8"'}
        )

    def _knows(self, host: str) -> bool:
        """Whether no DNS server of an attacker can have made a browser ask here: addresses need no DNS."""
        name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        name = name.lower().rstrip(".")
        try:
            ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _refused_action(self, authorization: str) -> Response | None:
        token = self._options.token
        if not token:
            return _error("actions need a token: set `token` of http: in agent.yaml", 403)
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), token.reveal().encode()):
            return None
        return _error("the header `Authorization: Bearer <token>` is missing or wrong", 401)


def _error(text: str, status: int) -> Response:
    headers = {"www-authenticate": 'Bearer realm="vedette"'} if status == 401 else None
    return JSONResponse({"ok": False, "error": text}, status, headers)
