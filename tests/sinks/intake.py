"""An intake that behaves as Datadog's does: endpoints, keys, codes, limits, encodings; and a proxy that misbehaves."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from backports import zstd

from listening import listening
from servers import http_server, pump

KEY = "0123456789abcdef0123456789abcdef"
APP_KEY = "fedcba9876543210fedcba9876543210fedcba98"
HOUR = 3600.0
_SERIES, _CHECKS, _EVENTS = "/api/v2/series", "/api/v1/check_run", "/api/v1/events"
_DISTRIBUTIONS, _LOGS = "/api/v1/distribution_points", "/api/v2/logs"
_TAKES = {_SERIES: {"deflate", "gzip", "zstd"}, _DISTRIBUTIONS: {"deflate"}, _LOGS: {"gzip"}}
_LARGEST = {_SERIES: (512_000, 5_242_880), _DISTRIBUTIONS: (512_000, 5_242_880), _LOGS: (5_000_000, 5_000_000)}
_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, "zstd": zstd.decompress, "gzip": gzip.decompress, "deflate": zlib.decompress
}  # fmt: skip
_DONE = {_SERIES: 202, _DISTRIBUTIONS: 202, _CHECKS: 202, _EVENTS: 202, _LOGS: 202}


@dataclass
class Taken:
    """A request that was accepted."""

    path: str
    headers: dict[str, str]
    body: Any
    size: int
    at: float


@dataclass
class Intake:
    """What came in.

    Attributes:
        keys: API keys that are good.
        taken: accepted requests.
        statuses: of every answer, in order, with the path.
        points: (metric, tags, host, timestamp) to value; the last one written wins.
        answer: asked for each request; returns a status (with headers), "hang", "reset" or "drip", or None for the
            ordinary way.
        ahead: seconds that its clock is ahead.
        managed: (method, path, body) of requests with an application key.
        most: bytes of a series body beyond which it answers 413; None is Datadog's limit.
        encodings: what the series endpoint takes.
        sees: is given what was accepted, which is not kept then.
    """

    keys: set[str] = field(default_factory=lambda: {KEY})
    taken: list[Taken] = field(default_factory=list)
    statuses: list[tuple[str, int]] = field(default_factory=list)
    points: dict[tuple[str, tuple[str, ...], str, int], float] = field(default_factory=dict)
    answer: Callable[[str], Any] = lambda path: None
    ahead: float = 0.0
    managed: list[tuple[str, str, Any]] = field(default_factory=list)
    most: int | None = None
    encodings: set[str] = field(default_factory=lambda: {"deflate", "gzip", "zstd"})
    sees: Callable[[Taken], None] | None = None
    url: str = ""
    now: Callable[[], float] = time.time
    headers_seen: list[dict[str, str]] = field(default_factory=list)
    raw_seen: list[bytes] = field(default_factory=list)

    def bodies(self, path: str) -> list[Any]:
        return [one.body for one in self.taken if one.path.endswith(path)]

    def series(self, metric: str) -> list[dict[str, Any]]:
        return [one for body in self.bodies("series") for one in body["series"] if one["metric"] == metric]

    def values(self, metric: str) -> dict[int, float]:
        return {key[3]: value for key, value in self.points.items() if key[0] == metric}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        self.headers_seen.append(dict(request.headers))
        how = self.answer(request.path)
        body = await request.read()
        if how == "hang":
            await asyncio.sleep(600)
        if how == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if how == "drip":
            return await self._drip(request)
        status, headers = how if isinstance(how, tuple) else (how, {})
        if status is None:
            status = self._judge(request, body)
        self.statuses.append((request.path, status))
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + self.ahead))
        return web.json_response({"errors": ["Forbidden " + request.headers.get("DD-API-KEY", "")]} if status > 299
                                 else {"status": "ok"}, status=status, headers={"Date": date, **headers})  # fmt: skip

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=202, headers={"Content-Length": "5000"})
        await response.prepare(request)
        with suppress(ConnectionError):  # whoever asked does not wait for ever
            for _ in range(5000):
                await response.write(b" ")
                await asyncio.sleep(0.02)
        return response

    def _judge(self, request: web.Request, body: bytes) -> int:
        if request.headers.get("DD-API-KEY") not in self.keys:
            return 403
        path = request.path
        if path == "/api/v1/validate":
            return 200
        if path.startswith(("/api/v1/metrics/", "/api/v1/tags/hosts/")):
            if request.headers.get("DD-APPLICATION-KEY") != APP_KEY:
                return 403
            self.managed.append((request.method, path, json.loads(body)))
            return 200
        if path not in _DONE:
            return 404
        return self._take(request, path, body)

    def _take(self, request: web.Request, path: str, body: bytes) -> int:
        coding = request.headers.get("Content-Encoding", "")
        takes = self.encodings if path == _SERIES else _TAKES.get(path, set())
        if coding and coding not in takes:
            return 415
        small, large = _LARGEST.get(path, (512_000, 5_242_880))
        if len(body) > (self.most or small):
            return 413
        raw = (
            {"zstd": zstd.decompress, "gzip": gzip.decompress, "deflate": zlib.decompress}[coding](body)
            if coding
            else body
        )
        if len(raw) > large:
            return 413
        if self.sees is None:
            self.raw_seen.append(raw)
        try:
            made = json.loads(raw)
            wrong = self._wrong(path, made)
        except (ValueError, KeyError, TypeError):
            return 400
        if wrong:
            return wrong
        (self.sees or self.taken.append)(Taken(path, dict(request.headers), made, len(body), self.now()))
        return 202

    def _wrong(self, path: str, made: Any) -> int:
        """What is refused of well-formed JSON; keeps points of those times that Datadog keeps."""
        if path == _SERIES:
            for one in made["series"]:
                if not one["metric"] or one["metric"].startswith("bad.") or one["type"] not in (0, 1, 2, 3):
                    return 400
                if one["type"] in (1, 2) and one["interval"] < 1:
                    return 400
            for one in made["series"]:
                host = next((r["name"] for r in one.get("resources", []) if r["type"] == "host"), "")
                for point in one["points"]:
                    if -600 <= self.now() - point["timestamp"] <= HOUR + 5:
                        key = (one["metric"], tuple(sorted(one["tags"])), host, point["timestamp"])
                        self.points[key] = point["value"]
        elif path == _LOGS:
            if len(made) > 1_000:
                return 413
        elif path == _EVENTS and len(made["text"]) > 4_000:
            return 400
        return 0


@asynccontextmanager
async def intake(port: int = 0, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Intake]:
    """An intake at work on a port of 127.0.0.1."""
    made = Intake(**options)
    async with http_server("*", "/{path:.*}", made.handle, port=port, tls=tls, auto_decompress=False) as made.url:
        yield made


@dataclass
class Proxy:
    """What a proxy was asked for: first lines, and the credentials shown."""

    url: str
    asked: list[str] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)


@asynccontextmanager
async def http_proxy() -> AsyncIterator[Proxy]:
    """A proxy for http (whole URLs) and https (CONNECT), as others run them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *headers = head.decode().split("\r\n")
        method, target, version = line.split(" ")
        made.asked.append(f"{method} {target}")
        made.credentials += [one for one in headers if one.lower().startswith("proxy-authorization")]
        place = target.removeprefix("http://").partition("/")
        host, _, port = place[0].partition(":")
        back_reader, back_writer = await asyncio.open_connection(host, int(port or 80))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            lines = [f"{method} /{place[2]} {version}", *filter(None, headers), "Connection: close", "", ""]
            back_writer.write("\r\n".join(lines).encode())
        try:
            await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))
        finally:
            back_writer.transport.abort()

    async with listening(serve) as port:
        made = Proxy(f"http://127.0.0.1:{port}")
        yield made
