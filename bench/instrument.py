"""What a metric costs an application: the caller's time for each call, and a request's for the middleware, in turns."""

from __future__ import annotations

import asyncio
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from common import report

from vedette.instrument import BusinessMetrics, MetricsMiddleware, TechnicalMetrics

ROUNDS, CALLS, REQUESTS = 40, 500, 1_000
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


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The least that is an answer, with a route as Starlette leaves it in the scope."""
    scope["route"] = ROUTE
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


class _Route:
    path = "/payments/{id}"


ROUTE = _Route()


async def requests(app: Any, number: int) -> float:
    """µs a request."""
    before = time.perf_counter()
    for _ in range(number):
        scope = {"type": "http", "method": "POST", "path": "/payments/1", "headers": []}
        await app(scope, _receive, _send)
    return (time.perf_counter() - before) / number * 1e6


def middleware(technical: TechnicalMetrics) -> float:
    """Median of the µs that the middleware adds to a request, measured in turns with the application without it."""
    with_it, added = MetricsMiddleware(bare, metrics=technical), []
    with asyncio.Runner() as loop:
        for _ in range(ROUNDS):
            without = loop.run(requests(bare, REQUESTS))
            added.append(loop.run(requests(with_it, REQUESTS)) - without)
            technical.flush()
    return statistics.median(added)


async def working(scope: Any, receive: Any, send: Any) -> None:
    """A request with two milliseconds of waiting in it, as for a database."""
    await asyncio.sleep(0.002)
    await bare(scope, receive, send)


async def slowest(app: Any) -> float:
    """The 99th percentile of 500 requests, 5 at a time, in ms."""
    found: list[float] = []

    async def client() -> None:
        for _ in range(100):
            before = time.perf_counter()
            await app({"type": "http", "method": "POST", "path": "/payments/1", "headers": []}, _receive, _send)
            found.append((time.perf_counter() - before) * 1e3)

    await asyncio.gather(*(client() for _ in range(5)))
    return statistics.quantiles(found, n=100)[98]


def _looked_up(*args: Any, **kwargs: Any) -> Any:
    time.sleep(0.2)
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def percentiles(folder: Path) -> list[tuple[str, float, str, str]]:
    """p99 of a request without metrics, and with them while they arrive, and while nothing can be sent; in turns."""
    real = socket.getaddrinfo
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
        asyncio.Runner() as loop,
    ):
        port.bind(("127.0.0.1", 0))
        full.bind(str(folder / "full"))
        targets: dict[str, dict[str, Any]] = {
            "without metrics": {},
            "without them, again: the noise": {},
            "and metrics that arrive": {"host": "127.0.0.1", "port": port.getsockname()[1]},
            "and nobody listens": {"host": "127.0.0.1", "port": 1},
            "and the socket is full": {"socket_path": str(folder / "full")},
            "and the name cannot be resolved": {"host": "agent.invalid"},
        }
        made = {name: TechnicalMetrics(**where) for name, where in targets.items() if where}
        apps = {name: MetricsMiddleware(working, metrics=one) for name, one in made.items()}
        found: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(20):
            for name in targets:
                socket.getaddrinfo = _looked_up if "name" in name else real
                found[name].append(loop.run(slowest(apps.get(name, working))))
        socket.getaddrinfo = real
        for one in made.values():
            one.close(0.1)
    return [(f"p99 of a request, {name}", statistics.median(times), "ms", "") for name, times in found.items()]


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
            ("the middleware, over the application without it", middleware(technical), "us", "<= 15"),
            ("CPU in all of a track_transaction, sent", in_all(transaction, business.flush), "us", ""),
            ("metrics that were lost on the way", business.stats().dropped, "", "0"),
        ]
        business.close()
    with tempfile.TemporaryDirectory() as folder:
        report(*rows, *percentiles(Path(folder)))


if __name__ == "__main__":
    main()
