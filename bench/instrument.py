"""What a metric costs an application: the caller's time for each call, and a request's for the middleware, in turns."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from common import report

from vedette.instrument import BusinessMetrics, MetricsMiddleware, TechnicalMetrics

ROUNDS, CALLS, REQUESTS = 40, 500, 500
RATE, TURNS, TURN_REQUESTS = 250, 40, 200
BODY = b'{"amount": "12.30", "currency": "USD", "user": "u-1"}'
REQUEST = (
    b"POST /payments/1 HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
AMOUNT = Decimal("12.30")


def each(call: Callable[[], object], flush: Callable[[], object]) -> float:
    """Median of µs a call, in bursts of 500, after each of which the sender's thread catches up."""
    found = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        for _ in range(CALLS):
            call()
        found.append((time.perf_counter() - before) / CALLS * 1e6)
        flush()
    return statistics.median(found)


async def _send(message: Any) -> None:
    pass


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


def starlette_app() -> Any:
    """A route below a mount that answers at once."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Mount, Route

    async def pay(request: Request) -> Response:
        return Response(b"{}")

    return Starlette(routes=[Mount("/v1", routes=[Route("/payments/{id}", pay, methods=["POST"])])])


def fastapi_app() -> Any:
    """The same, in a router that is included."""
    from fastapi import APIRouter, FastAPI, Response

    router = APIRouter()

    @router.post("/payments/{id}")
    async def pay(id: str) -> Response:
        return Response(b"{}")

    app = FastAPI()
    app.include_router(router, prefix="/v1")
    return app


async def requests(app: Any, number: int) -> float:
    """µs a request."""
    before = time.perf_counter()
    for _ in range(number):
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/v1/payments/1",
            "root_path": "", "query_string": b"", "headers": [], "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await app(scope, _receive, _send)
    return (time.perf_counter() - before) / number * 1e6


def middleware(make: Callable[[], Any], technical: TechnicalMetrics) -> float:
    """Median of the µs that the middleware adds to a request, measured in turns with the application without it."""
    plain, with_it, added = make(), make(), []
    with_it.add_middleware(MetricsMiddleware, metrics=technical)
    with asyncio.Runner() as loop:
        for turn in range(ROUNDS + 1):
            without = loop.run(requests(plain, REQUESTS))
            both = loop.run(requests(with_it, REQUESTS))
            if turn:  # the first only warms up
                added.append(both - without)
            technical.flush()
    return statistics.median(added)


def percentiles(folder: Path) -> list[tuple[str, float, str, str]]:
    """p99 of a request with 12 metrics in it, over that of one without: all servers in short turns.

    The p99 is that of the median turn, so that a machine that is busy for a while does not decide. Of two servers
    without metrics the ratio is noise. Beside each is the interval in which it lies with 95 %.
    """
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
        ExitStack() as stack,
    ):
        port.bind(("127.0.0.1", 0))
        full.bind(str(folder / "full"))
        kinds = {
            "two without: the noise": ["without"],
            "metrics that arrive": ["udp", str(port.getsockname()[1])],
            "nobody listens": ["udp", "1"],
            "the socket is full": ["socket", str(folder / "full")],
            "the name cannot be resolved": ["name"],
        }
        servers = {name: stack.enter_context(serving(*kind)) for name, kind in {"": ["without"], **kinds}.items()}
        with asyncio.Runner() as loop:
            found = loop.run(in_turns(servers))
    base = found.pop("")
    rows = [(f"p99 of a request, {RATE} a second, without metrics", statistics.median(base), "ms", "")]
    for name, times in found.items():
        low, high = interval(base, times)
        limit = "" if "noise" in name else "<= 1.1; "
        ratio = statistics.median(times) / statistics.median(base)
        rows.append(
            (f"p99, 12 metrics each, over without: {name}", ratio, "x", f"{limit}95 %: {low:.2f} to {high:.2f}")
        )
    return rows


def alone() -> None:
    """Go before all ordinary processes of the machine, where that is allowed, so that they are not measured with it."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def interval(base: list[float], times: list[float]) -> tuple[float, float]:
    """The middle 95 % of the ratio of medians, by a bootstrap of turns, which share their troubles."""
    chance, found = random.Random(1), []
    for _ in range(2000):
        drawn = chance.choices(range(len(base)), k=len(base))
        found.append(statistics.median(times[n] for n in drawn) / statistics.median(base[n] for n in drawn))
    found.sort()
    return found[49], found[1949]


async def in_turns(servers: dict[str, int]) -> dict[str, list[float]]:
    """p99 of each server in ms, turn by turn; the order is another one each turn."""
    chance, found = random.Random(1), {name: list[float]() for name in servers}
    clients = {name: await Connections.to(port) for name, port in servers.items()}
    for turn in range(TURNS + 1):
        for name in chance.sample(list(servers), len(servers)):
            times = await clients[name].ask(TURN_REQUESTS)
            if turn:  # the first only warms up
                found[name].append(statistics.quantiles(times, n=100)[98])
    return found


class Connections:
    """Some connections to a server, over which requests go at a fixed rate, whether it keeps up or not."""

    def __init__(self, free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        self._free = free

    @classmethod
    async def to(cls, port: int) -> Connections:
        free: asyncio.Queue[Any] = asyncio.Queue()
        for _ in range(20):
            free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
        return cls(free)

    async def ask(self, number: int) -> list[float]:
        """ms from when a request was due until its answer is there."""
        start = time.perf_counter() + 0.05
        return await asyncio.gather(*(self._one(start + n / RATE) for n in range(number)))

    async def _one(self, due: float) -> float:
        await asyncio.sleep(due - time.perf_counter())
        reader, writer = await self._free.get()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        took = (time.perf_counter() - due) * 1e3
        self._free.put_nowait((reader, writer))
        return took


@contextmanager
def serving(*kind: str) -> Iterator[int]:
    """A server in a process of its own; yields its port."""
    process = subprocess.Popen(
        [sys.executable, __file__, *kind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def serve(kind: str, where: str = "") -> None:
    """A service whose requests read JSON, wait for two milliseconds as for a database, and answer."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    options: dict[str, Any] = {"host": "agent.invalid"}
    if kind in ("udp", "socket"):
        options = {"host": "127.0.0.1", "port": int(where)} if kind == "udp" else {"socket_path": where}
    track: Callable[..., None] | None = None
    if kind != "without":
        track = partial(_track, BusinessMetrics(**options))
    if kind == "name":
        socket.getaddrinfo = _looked_up

    async def pay(request: Request) -> JSONResponse:
        body = await request.json()
        await asyncio.sleep(0.002)
        if track is not None:
            track(amount=Decimal(body["amount"]), user=body["user"])
        return JSONResponse({"id": request.path_params["id"], "status": "pending"}, status_code=201)

    app = Starlette(routes=[Route("/payments/{id}", pay, methods=["POST"])])
    if kind != "without":
        app.add_middleware(MetricsMiddleware, metrics=TechnicalMetrics(**options))
    with socket.create_server(("127.0.0.1", 0)) as port:
        print(port.getsockname()[1], flush=True)
        config = uvicorn.Config(app, log_level="error", access_log=False, timeout_keep_alive=600)
        asyncio.run(uvicorn.Server(config).serve([port]))


def _track(business: BusinessMetrics, amount: Decimal, user: str) -> None:
    business.track_transaction(
        amount=amount, currency="USD", type="payment", status="completed", processing_time_ms=9.5
    )
    business.track_user_event("user_login", user_id=user)
    business.track_revenue(amount=amount, currency="USD", source="fees")
    business.track_fraud(risk_score=0.1, action="allow")


def _looked_up(*args: Any, **kwargs: Any) -> Any:
    time.sleep(0.2)
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def in_all(call: Callable[[], object], flush: Callable[[], object]) -> float:
    """Median of µs of CPU a call in the whole process, the sender's thread included."""
    found = []
    for _ in range(ROUNDS):
        before = time.process_time()
        for _ in range(CALLS):
            call()
        flush()
        found.append((time.process_time() - before) / CALLS * 1e6)
    return statistics.median(found)


def main() -> None:
    """Print the figures."""
    alone()  # which servers inherit
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("127.0.0.1", 0))
        where: dict[str, Any] = {"host": "127.0.0.1", "port": port.getsockname()[1], "service": "payments"}
        business, technical = BusinessMetrics(**where), TechnicalMetrics(**where)

        def transaction() -> None:
            business.track_transaction(
                amount=AMOUNT, currency="USD", type="payment", status="completed", processing_time_ms=120.5
            )

        def request() -> None:
            technical.track_api_performance(
                endpoint="/payments/{id}", method="POST", response_time_ms=31.25, status_code=201
            )

        def user() -> None:
            business.track_user_event("user_login", user_id="u-1")

        rows = [
            ("track_transaction (4 metrics)", each(transaction, business.flush), "us", "<= 12"),
            ("track_api_performance (3 metrics)", each(request, technical.flush), "us", ""),
            ("track_user_event (2 metrics)", each(user, business.flush), "us", ""),
            ("the middleware, over Starlette without it", middleware(starlette_app, technical), "us", "<= 15"),
            ("the middleware, over FastAPI without it", middleware(fastapi_app, technical), "us", "<= 15"),
            ("CPU in all of a track_transaction, sent", in_all(transaction, business.flush), "us", ""),
            ("metrics that were lost on the way", business.stats().dropped, "", "0"),
        ]
        business.close()
    with tempfile.TemporaryDirectory() as folder:
        report(*rows, *percentiles(Path(folder)))


if __name__ == "__main__":
    serve(*sys.argv[1:]) if sys.argv[1:] else main()
