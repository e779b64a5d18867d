"""The page's routes."""

from __future__ import annotations

import hashlib
import logging
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from vedette.control import ControlError, find
from vedette.control.wire import encode, perform, picture
from vedette.status import pages
from vedette.status.board import Board
from vedette.status.exposition import Exposition
from vedette.status.guard import Guard
from vedette.status.hub import Hub
from vedette.vitals import State

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from vedette.config import HttpConfig
    from vedette.control import Operations
    from vedette.status.history import History
    from vedette.vitals import Vitals

log = logging.getLogger("vedette.status")

_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_YEAR = "public, max-age=31536000, immutable"


class Page:
    """Answers requests; only reads, but for POST.

    Args:
        operations: the agent.
        history: what it remembers.
    """

    def __init__(self, operations: Operations, history: History) -> None:
        self.board = Board(operations)
        self.hub = Hub(self.board)
        self._operations = operations
        self._history = history
        self._exposition = Exposition(operations)
        folder = resources.files("vedette.status")
        self._files = {name: (folder / name).read_bytes() for name in _STATIC}
        self._assets = hashlib.sha256(b"".join(self._files.values())).hexdigest()[:12]
        self._ready = False

    def app(self, options: HttpConfig) -> ASGIApp:
        """The application behind its guard."""
        routes = [
            Route("/", self._index),
            Route("/instance/{instance:path}", self._instance),
            Route("/events", self._events),
            Route("/static/{name}", self._static),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            Route("/api/status", self._status),
            Route("/api/status/{instance:path}", self._status),
            Route("/api/reload", self._reload, methods=["POST"]),
            Route("/api/{operation}/{instance:path}", self._action, methods=["POST"]),
        ]
        return Guard(Starlette(routes=routes), options, self.board.snapshot.host)

    def probes(self) -> ASGIApp:
        """What a kubelet may ask, and nothing else: it tells nobody anything, so it needs no guard."""
        return Starlette(routes=[Route("/healthz", self._healthz), Route("/readyz", self._readyz)])

    # Pages

    async def _index(self, request: Request) -> Response:
        self.board.refresh()
        return HTMLResponse(pages.index(self.board, self._assets))

    async def _instance(self, request: Request) -> Response:
        self.board.refresh()
        wanted = _wanted(request)
        row = self.board.rows.get(wanted)
        if row is None:
            return HTMLResponse(pages.missing(self.board, wanted, self._assets), 404)
        return HTMLResponse(pages.instance(self.board, row, self._history, self._assets))

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            return PlainTextResponse("not found\n", 404)
        return Response(self._files[name], headers={"cache-control": _YEAR}, media_type=_STATIC[name])

    async def _events(self, request: Request) -> Response:
        if self.hub.full:
            return PlainTextResponse("too many viewers\n", 503)
        stamp = request.headers.get("last-event-id") or request.query_params.get("since", "")
        return StreamingResponse(self.hub.stream(stamp), media_type="text/event-stream")

    # For machines

    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        """Ready once every instance was started or stands by, and from then on: what a target does is no matter."""
        self._ready = self._ready or all(map(_started, self._operations.snapshot().instances))
        return PlainTextResponse("ok\n") if self._ready else PlainTextResponse("starting\n", 503)

    async def _metrics(self, request: Request) -> Response:
        body, content_type = self._exposition.page(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def _status(self, request: Request) -> Response:
        try:
            body = encode(picture(self._operations.snapshot(), _wanted(request)))
        except ControlError as error:
            return JSONResponse({"ok": False, "error": str(error)}, 404)
        return Response(body, media_type="application/json")

    # Actions: the guard has seen the token

    async def _reload(self, request: Request) -> Response:
        check = request.query_params.get("check", "").lower() in ("1", "true", "yes")
        return await self._do({"op": "reload", "check": check})

    async def _action(self, request: Request) -> Response:
        asked: dict[str, Any] = {"op": request.path_params["operation"], "instance": _wanted(request)}
        try:
            find(asked["instance"], (vitals.instance for vitals in self._operations.snapshot().instances))
        except ControlError as error:
            return JSONResponse({"ok": False, "error": str(error)}, 404)
        if "for" in request.query_params:
            asked["for"] = request.query_params["for"]
        return await self._do(asked)

    async def _do(self, asked: dict[str, Any]) -> Response:
        try:
            result = await perform(self._operations, asked)
        except ControlError as error:
            return JSONResponse({"ok": False, "error": str(error)}, 409)
        log.info("%s%s, asked for over HTTP", asked["op"], f" {asked['instance']}" if "instance" in asked else "")
        return Response(encode({"ok": True, "result": result}), media_type="application/json")


def _started(vitals: Vitals) -> bool:
    return bool(vitals.next_run or vitals.last_run) or vitals.state is State.STANDBY


def _wanted(request: Request) -> str:
    return str(request.path_params.get("instance", ""))
