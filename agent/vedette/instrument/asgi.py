"""ASGI middleware: time, status and route template of each request, for Starlette, FastAPI and what is built on them.

Protocol: ASGI 3, "HTTP & WebSocket message format".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, TypeAlias

from vedette.instrument.routes import Templates
from vedette.instrument.technical import TechnicalMetrics

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

UNMATCHED = "unmatched"
"""The `endpoint` of all requests that no route wanted: scanners try thousands of paths."""
_FAILED, _GONE, _SWITCHED, _REFUSED = 500, 499, 101, 403


class MetricsMiddleware:
    """Sends `api.response_time`, `api.requests` and `api.errors` for each request.

    `app.add_middleware(MetricsMiddleware)`. Its `endpoint` is the route's template and never the raw path; a request
    that no route wanted is `unmatched`. The time ends with the last byte of the response: background tasks that follow
    do not count, a stream does until its end. An exception is a 500; a client that goes away before there is an answer
    is a 499. A websocket is one request, `method:WEBSOCKET`, that takes as long as its handshake and has the status
    101, or 403 where it is refused; if it fails later, that is one more `api.errors`.

    Args:
        app: the application.
        metrics: where to send to. Default: `TechnicalMetrics()`.
        endpoint: names the endpoint of a scope, for frameworks of other kinds; None is `unmatched`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: TechnicalMetrics | None = None,
        endpoint: Callable[[Scope], str | None] | None = None,
    ) -> None:
        self.app = app
        self._metrics = TechnicalMetrics() if metrics is None else metrics
        self._track = self._metrics.track_api_performance
        self._templates = Templates(app)
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "http":
            await self._request(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        root = scope.get("app")
        status = 0
        done = gone = False

        async def watched(message: Message) -> None:
            nonlocal status, done, gone
            try:
                await send(message)
            except OSError:  # ASGI's word for a client that is not there any more
                gone = True
                raise
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
            elif kind == "http.response.body" and not done and not message.get("more_body", False):
                done = True
                self._tell(scope, root, started, status)

        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            status = status or _GONE
            raise
        except BaseException as error:
            left = gone or type(error).__name__ == "ClientDisconnect"  # Starlette: it left while it sent
            status = (status or _GONE) if left else _FAILED
            raise
        finally:
            if not done:  # an answer that never came, was cut off, or was sent by way of an extension
                self._tell(scope, root, started, status or _FAILED)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        root = scope.get("app")
        told = False

        async def watched(message: Message) -> None:
            nonlocal told
            await send(message)
            kind = message["type"]
            if told:
                return
            if kind == "websocket.accept":
                told = True
                self._tell(scope, root, started, _SWITCHED, "WEBSOCKET")
            elif kind == "websocket.http.response.start":
                told = True
                self._tell(scope, root, started, message["status"], "WEBSOCKET")
            elif kind == "websocket.close":
                told = True
                self._tell(scope, root, started, _REFUSED, "WEBSOCKET")

        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if told and type(error).__name__ != "WebSocketDisconnect":  # Starlette's word for a client that left
                self._metrics.track_error(endpoint=self._named(scope, root), method="WEBSOCKET")
            told = told or self._tell(scope, root, started, _FAILED, "WEBSOCKET")
            raise
        finally:
            if not told:
                self._tell(scope, root, started, _GONE, "WEBSOCKET")

    def _tell(self, scope: Scope, root: Any, started: float, status: int, method: str = "") -> bool:
        self._track(
            endpoint=self._named(scope, root),
            method=method or scope["method"],
            response_time_ms=(perf_counter() - started) * 1000,
            status_code=status,
        )
        return True

    def _named(self, scope: Scope, root: Any) -> str:
        try:
            found = self._templates.find(scope, root) if self._endpoint is None else self._endpoint(scope)
        except Exception:
            return UNMATCHED
        return found or UNMATCHED
