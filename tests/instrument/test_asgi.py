"""The middleware on real applications: templates, streams, failures, websockets, and behind a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from sinks.parts import Port, until
from vedette.instrument import MetricsMiddleware, TechnicalMetrics

from .parts import Line

pytestmark = pytest.mark.anyio


async def lines(technical: TechnicalMetrics, port: Port) -> list[Line]:
    """Everything so far, once it has arrived."""
    assert await asyncio.to_thread(technical.flush, 10.0)
    await port.wait_for(technical.stats().sent)
    return [Line.of(line) for line in port.lines]


async def requests(technical: TechnicalMetrics, port: Port) -> list[tuple[str, str, str]]:
    """Endpoint, method and status of each request counted so far."""
    found = [line.tags for line in await lines(technical, port) if line.name == "api.requests"]
    return [tuple(tag.partition(":")[2] for tag in tags) for tags in found]  # type: ignore[misc]


def counted(port: Port) -> int:
    """How many requests have arrived by themselves."""
    return sum(line.startswith("api.requests") for line in port.lines)


@asynccontextmanager
async def asking(app: Any, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the application in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, **options)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def measured(app: Any, technical: TechnicalMetrics) -> Any:
    app.add_middleware(MetricsMiddleware, metrics=technical)
    return app


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


# Templates


async def test_templates_of_starlette(port: Port, technical: TechnicalMetrics, tmp_path: Any) -> None:
    (tmp_path / "logo.txt").write_text("x")
    shared = Starlette(routes=[Route("/items/{id:int}", hello)])
    app = Starlette(
        routes=[
            Route("/", hello),
            Route("/payments/{id}", hello, methods=["GET", "POST"]),
            Route("/files/{path:path}", hello),
            Mount("/v1", routes=[Route("/users/{user}", hello), Mount("/deep/{a}", routes=[Route("/x/{b}", hello)])]),
            Mount("/left", app=shared),
            Mount("/right/{tenant}", app=shared),
            Mount("/static", app=StaticFiles(directory=tmp_path)),
            Host("api.test", app=Router([Route("/hosted/{id}", hello)])),
        ]
    )
    async with asking(measured(app, technical)) as client:
        for path in (
            "/", "/payments/4711", "/files/a/b/c", "/v1/users/ann", "/v1/deep/secret-1/x/secret-2", "/left/items/1",
            "/right/acme/items/1", "/static/logo.txt", "/payments/4712", "/users/ann",
        ):  # fmt: skip
            await client.get(path)
        await client.get("http://api.test/hosted/7")
        await client.put("/payments/1")
        await client.get("/right/acme/nothing")
        await client.get("/payments/1/")
    assert await requests(technical, port) == [
        ("/", "GET", "200"),
        ("/payments/{id}", "GET", "200"),
        ("/files/{path:path}", "GET", "200"),
        ("/v1/users/{user}", "GET", "200"),
        ("/v1/deep/{a}/x/{b}", "GET", "200"),
        ("/left/items/{id:int}", "GET", "200"),
        ("/right/{tenant}/items/{id:int}", "GET", "200"),
        ("/static", "GET", "200"),
        ("/payments/{id}", "GET", "200"),
        ("unmatched", "GET", "404"),
        ("/hosted/{id}", "GET", "200"),
        ("/payments/{id}", "PUT", "405"),
        ("unmatched", "GET", "404"),
        ("unmatched", "GET", "307"),
    ]
    assert "secret" not in "".join(port.lines)
    assert technical.stats().other == {}


async def test_a_mount_behind_wrappers_keeps_its_prefix(port: Port, technical: TechnicalMetrics) -> None:
    def inner() -> Starlette:
        return Starlette(routes=[Route("/payments/{id}", hello)])

    app = Starlette(
        routes=[
            Mount("/public", app=GZipMiddleware(CORSMiddleware(inner()))),
            Mount("/internal", app=CORSMiddleware(inner())),
        ]
    )
    wrapped = MetricsMiddleware(CORSMiddleware(app), metrics=technical)
    async with asking(wrapped) as client:
        for path in ("/public/payments/1", "/internal/payments/1", "/internal/2"):
            await client.get(path)
    assert [endpoint for endpoint, *_ in await requests(technical, port)] == [
        "/public/payments/{id}", "/internal/payments/{id}", "unmatched",
    ]  # fmt: skip


async def test_templates_of_fastapi(port: Port, technical: TechnicalMetrics) -> None:
    inner, outer, sub = fastapi.APIRouter(prefix="/inner"), fastapi.APIRouter(prefix="/v1"), fastapi.FastAPI()

    @inner.get("/x/{y}")
    async def x(y: int) -> int:
        return y

    @outer.get("/pay/{id}")
    async def pay(id: int) -> int:
        return id

    @sub.get("/s/{q}")
    async def s(q: str) -> str:
        return q

    @sub.get("/broken")
    async def broken() -> None:
        raise ValueError

    outer.include_router(inner, prefix="/in/{tenant}")
    app = fastapi.FastAPI()
    app.include_router(outer, prefix="/api")
    app.include_router(outer, prefix="/old/{era}")
    app.mount("/t/{customer}", sub)
    async with asking(measured(app, technical)) as client:
        for path in (
            "/api/v1/pay/3", "/api/v1/in/acme/inner/x/4", "/old/1990/v1/pay/3", "/t/secret/s/9", "/t/secret/broken",
            "/t/secret/no", "/no", "/api/v1/pay/no-number", "/openapi.json",
        ):  # fmt: skip
            await client.get(path)
    assert await requests(technical, port) == [
        ("/api/v1/pay/{id}", "GET", "200"),
        ("/api/v1/in/{tenant}/inner/x/{y}", "GET", "200"),
        ("/old/{era}/v1/pay/{id}", "GET", "200"),
        ("/t/{customer}/s/{q}", "GET", "200"),
        ("/t/{customer}/broken", "GET", "500"),
        ("unmatched", "GET", "404"),
        ("unmatched", "GET", "404"),
        ("/api/v1/pay/{id}", "GET", "422"),
        ("/openapi.json", "GET", "200"),
    ]


async def test_a_route_that_is_added_later(port: Port, technical: TechnicalMetrics) -> None:
    app = measured(Starlette(routes=[Route("/a/{id}", hello)]), technical)
    async with asking(app) as client:
        await client.get("/a/1")
        app.router.routes.append(Mount("/late/{x}", routes=[Route("/b/{id}", hello)]))
        await client.get("/late/secret/b/1")
    assert [endpoint for endpoint, *_ in await requests(technical, port)] == ["/a/{id}", "/late/{x}/b/{id}"]


async def test_around_an_application_and_under_a_root_path(port: Port, technical: TechnicalMetrics) -> None:
    inner = Starlette(routes=[Mount("/m/{x}", routes=[Route("/b/{id}", hello)])])
    async with asking(MetricsMiddleware(inner, metrics=technical), root_path="/behind/proxy") as client:
        await client.get("/behind/proxy/m/1/b/2")
    assert await requests(technical, port) == [("/m/{x}/b/{id}", "GET", "200")]


async def test_with_another_middleware_around_and_inside(port: Port, technical: TechnicalMetrics) -> None:
    class Pass(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    app = Starlette(
        routes=[Mount("/v1", routes=[Route("/a/{id}", hello)])],
        middleware=[Middleware(Pass), Middleware(MetricsMiddleware, metrics=technical), Middleware(Pass)],
    )
    async with asking(app) as client:
        await client.get("/v1/a/1")
    assert await requests(technical, port) == [("/v1/a/{id}", "GET", "200")]


async def test_another_framework(port: Port, technical: TechnicalMetrics) -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    names: dict[str, str | None] = {"/a": "first", "/b": None}
    app = MetricsMiddleware(bare, metrics=technical, endpoint=lambda scope: names[scope["path"]])
    async with asking(app) as client:
        for path in ("/a", "/b", "/raises"):
            await client.get(path)
    assert await requests(technical, port) == [
        ("first", "GET", "204"), ("unmatched", "GET", "204"), ("unmatched", "GET", "204"),
    ]  # fmt: skip


async def test_by_default_it_sends_to_where_the_environment_says(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_DOGSTATSD_URL", f"udp://127.0.0.1:{port.number}")
    app = Starlette(routes=[Route("/a", hello)])
    app.add_middleware(MetricsMiddleware)
    async with asking(app) as client:
        await client.get("/a")
    technical = TechnicalMetrics()
    assert await requests(technical, port) == [("/a", "GET", "200")]
    technical.close(10)


# Status and time


async def test_exceptions_and_errors(port: Port, technical: TechnicalMetrics) -> None:
    async def fail(request: Request) -> Response:
        raise ZeroDivisionError

    async def refuse(request: Request) -> Response:
        raise HTTPException(409)

    async def midway(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a"
            raise ZeroDivisionError

        return StreamingResponse(parts())

    app = Starlette(routes=[Route("/fail", fail), Route("/refuse", refuse), Route("/midway", midway)])
    async with asking(measured(app, technical)) as client:
        assert (await client.get("/fail")).status_code == 500
        await client.get("/refuse")
        await client.get("/midway")
    assert await requests(technical, port) == [
        ("/fail", "GET", "500"), ("/refuse", "GET", "409"), ("/midway", "GET", "500"),
    ]  # fmt: skip
    errors = [line.tags[2] for line in await lines(technical, port) if line.name == "api.errors"]
    assert errors == ["error:true"] * 3


async def test_no_answer_at_all_is_a_500(port: Port, technical: TechnicalMetrics) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return

    app = MetricsMiddleware(silent, metrics=technical)
    await app({"type": "http", "method": "GET", "path": "/"}, None, None)  # type: ignore[arg-type]
    assert await requests(technical, port) == [("unmatched", "GET", "500")]


async def test_a_stream_counts_until_its_end_and_a_background_task_not(port: Port, technical: TechnicalMetrics) -> None:
    release = asyncio.Event()

    async def stream(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.sleep(0.05)
            yield b"b"

        return StreamingResponse(parts())

    async def later(request: Request) -> Response:
        return PlainTextResponse("x", background=BackgroundTask(release.wait))

    app = measured(Starlette(routes=[Route("/stream", stream), Route("/later", later)]), technical)
    async with asking(app) as client:
        await client.get("/stream")
        task = asyncio.create_task(client.get("/later"))
        await until(lambda: counted(port) == 2, "the request, though its background task has not ended")
        release.set()
        await task
    times = [float(line.value) for line in await lines(technical, port) if line.name == "api.response_time"]
    assert times[0] >= 50
    assert len(times) == 2


async def test_a_background_task_that_fails_leaves_the_request_as_it_was(
    port: Port, technical: TechnicalMetrics
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def later(request: Request) -> Response:
        return PlainTextResponse("x", background=BackgroundTask(fail))

    async with asking(measured(Starlette(routes=[Route("/later", later)]), technical)) as client:
        await client.get("/later")
    assert await requests(technical, port) == [("/later", "GET", "200")]


@pytest.mark.parametrize(("started", "status"), [(False, "499"), (True, "200")])
async def test_a_request_that_is_cancelled(port: Port, technical: TechnicalMetrics, started: bool, status: str) -> None:
    at_work = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        at_work.set()
        await asyncio.sleep(60)

    async def nowhere(message: Any) -> None:
        pass

    middleware = MetricsMiddleware(app, metrics=technical)
    scope = {"type": "http", "method": "GET", "path": "/"}
    task = asyncio.create_task(middleware(scope, None, nowhere))  # type: ignore[arg-type]
    await at_work.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await requests(technical, port) == [("unmatched", "GET", status)]


async def test_a_client_that_is_gone_is_no_error_of_ours(port: Port, technical: TechnicalMetrics) -> None:
    async def gone(message: Any) -> None:
        raise OSError

    app = MetricsMiddleware(PlainTextResponse("x"), metrics=technical)
    with pytest.raises(OSError):
        await app({"type": "http", "method": "GET", "path": "/"}, None, gone)  # type: ignore[arg-type]
    assert await requests(technical, port) == [("unmatched", "GET", "499")]


async def test_nor_one_that_goes_while_it_sends(port: Port, technical: TechnicalMetrics) -> None:
    async def upload(request: Request) -> Response:
        await request.body()
        raise AssertionError

    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        pass

    app = measured(Starlette(routes=[Route("/up", upload, methods=["POST"])]), technical)
    scope = {"type": "http", "method": "POST", "path": "/up", "headers": [], "query_string": b""}
    with pytest.raises(ClientDisconnect):
        await app(scope, receive, send)
    assert await requests(technical, port) == [("/up", "POST", "499")]


async def test_lifespan_passes(technical: TechnicalMetrics) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await MetricsMiddleware(app, metrics=technical)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
    assert technical.stats().sent == 0


async def test_metrics_that_fail_leave_the_answer(
    port: Port, technical: TechnicalMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lines: str) -> None:
        raise MemoryError

    monkeypatch.setattr(technical, "_put", fail)
    async with asking(measured(Starlette(routes=[Route("/a", hello)]), technical)) as client:
        assert (await client.get("/a")).text == "hello"
    assert technical.stats().failed == 1


# Websockets, spoken by hand: the events that a server and a client exchange


class Peer:
    """A websocket's client: what it sends, and what it was sent."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events: Iterator[dict[str, Any]] = iter(({"type": "websocket.connect"}, *events))
        self.sent: list[str] = []

    async def receive(self) -> Any:
        return next(self.events)

    async def send(self, message: Any) -> None:
        self.sent.append(message["type"])


async def websocket(app: Any, path: str, *events: dict[str, Any]) -> Peer:
    peer = Peer(*events)
    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "subprotocols": [], "root_path": ""}
    await app(scope, peer.receive, peer.send)
    return peer


async def test_websockets(port: Port, technical: TechnicalMetrics) -> None:
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await asyncio.sleep(0.05)
        await socket.send_text(await socket.receive_text())
        await socket.receive_text()  # raises when the client leaves

    async def refuse(socket: WebSocket) -> None:
        await socket.close()

    async def break_off(socket: WebSocket) -> None:
        await socket.accept()
        raise ZeroDivisionError

    async def fail(socket: WebSocket) -> None:
        raise ZeroDivisionError

    app = measured(
        Starlette(
            routes=[
                WebSocketRoute("/talk/{room}", talk), WebSocketRoute("/refuse", refuse),
                WebSocketRoute("/break", break_off), WebSocketRoute("/fail", fail),
            ]
        ),
        technical,
    )  # fmt: skip
    leaves = {"type": "websocket.disconnect", "code": 1000}
    began = time.perf_counter()
    with pytest.raises(WebSocketDisconnect):
        await websocket(app, "/talk/7", {"type": "websocket.receive", "text": "x"}, leaves)
    whole = (time.perf_counter() - began) * 1000
    assert (await websocket(app, "/refuse")).sent == ["websocket.close"]
    for path in ("/break", "/fail"):
        with pytest.raises(ZeroDivisionError):
            await websocket(app, path)
    await websocket(app, "/nowhere")
    assert await requests(technical, port) == [
        ("/talk/{room}", "WEBSOCKET", "101"),
        ("/refuse", "WEBSOCKET", "403"),
        ("/break", "WEBSOCKET", "101"),
        ("/fail", "WEBSOCKET", "500"),
        ("unmatched", "WEBSOCKET", "403"),
    ]
    found = await lines(technical, port)
    errors = [(line.tags[0], line.tags[2]) for line in found if line.name == "api.errors"]
    assert errors == [
        ("endpoint:/talk/{room}", "error:false"),
        ("endpoint:/refuse", "error:true"),
        ("endpoint:/break", "error:false"),
        ("endpoint:/break", "error:true"),
        ("endpoint:/fail", "error:true"),
        ("endpoint:unmatched", "error:true"),
    ]
    handshake = next(float(line.value) for line in found if line.name == "api.response_time")
    assert handshake <= whole - 50  # without the time of the talk


async def test_behind_a_real_server(port: Port, technical: TechnicalMetrics) -> None:
    """Keep-alive, HEAD, a large body in pieces, and a client that leaves in the middle of a stream."""
    left = asyncio.Event()

    async def endless(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 1000
                    await asyncio.sleep(0.005)
            finally:
                left.set()

        return StreamingResponse(parts())

    async def large(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())) + "y" * 300_000)

    app = Starlette(routes=[Route("/endless", endless), Route("/large", large, methods=["GET", "POST"])])
    server = uvicorn.Server(
        uvicorn.Config(measured(app, technical), port=0, log_config=None, lifespan="off", ws="none")
    )
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        await until(lambda: server.started, "the server")
        where = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{where}", trust_env=False) as client:
            await client.head("/large")
            await client.post("/large", content=b"z" * 500_000)
            async with client.stream("GET", "/endless") as answer:
                await anext(answer.aiter_raw())
        await left.wait()
        await until(lambda: counted(port) == 3, "the requests")
        server.should_exit = True
        await task
    assert await requests(technical, port) == [
        ("/large", "HEAD", "200"), ("/large", "POST", "200"), ("/endless", "GET", "200"),
    ]  # fmt: skip
