"""The service: `uvicorn payments.service:app`. Here its libraries are measured; what it means is in the modules beside.

DATABASE_URL and REDIS_URL say where they are; DD_DOGSTATSD_URL where metrics go, DD_SERVICE, DD_ENV and DD_VERSION what
they are tagged with; TIMEZONE where the days of the dashboard begin.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from payments import transfers, users
from payments.cards import CardNetwork
from payments.ledger import Ledger
from payments.measured import log_as_json, technical
from payments.settlement import Settlement
from payments.shop import Shop
from vedette.instrument import (
    MetricsMiddleware,
    RealtimeCounters,
    instrument_asyncpg,
    instrument_redis,
    instrument_sqlalchemy,
)

_WORKERS = 8


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Shop]]:
    """Connect, each library measured by one line; work on the queue; disconnect."""
    database = os.environ["DATABASE_URL"]
    async with AsyncExitStack() as stack:
        measured = instrument_asyncpg(metrics=technical, name="payments")
        pool = await stack.enter_async_context(asyncpg.create_pool(database, min_size=1, max_size=4, init=measured))
        measured.watch(pool)

        engine = create_async_engine(
            database.replace("postgresql:", "postgresql+asyncpg:", 1), pool_size=1, max_overflow=1
        )
        instrument_sqlalchemy(engine, metrics=technical, name="reports")
        stack.push_async_callback(engine.dispose)

        redis = instrument_redis(Redis.from_url(os.environ["REDIS_URL"], decode_responses=True), metrics=technical)
        stack.push_async_callback(redis.aclose)

        counters = RealtimeCounters(redis, timezone=os.environ.get("TIMEZONE", "UTC"))
        ledger, cards = Ledger(pool), CardNetwork()
        settlement = Settlement(redis, ledger, cards, counters)
        tasks = [
            asyncio.create_task(job) for job in (*(settlement.work() for _ in range(_WORKERS)), settlement.watch())
        ]
        stack.push_async_callback(_end, tasks)
        yield {"shop": Shop(ledger, engine, redis, counters, cards, settlement)}


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def gone(request: Request, error: Exception) -> Response:
    """The customer left in the middle of the request: nobody's error."""
    return Response(status_code=499)


log_as_json()
app = Starlette(
    lifespan=lifespan,
    exception_handlers={ClientDisconnect: gone},
    routes=[
        Route("/api/v1/users", users.register, methods=["POST"]),
        Route("/api/v1/users/verification", users.verify, methods=["POST"]),
        Route("/api/v1/auth/login", users.login, methods=["POST"]),
        Route("/api/v1/wallet/balance", users.balance),
        Route("/api/v1/wallet/statement", users.statement),
        Route("/api/v1/payments/send", transfers.send, methods=["POST"]),
        Route("/api/v1/payments/{id:int}", transfers.show),
        Route("/api/v1/payments/{id:int}/refund", transfers.refund, methods=["POST"]),
        Route("/api/v1/payments/{id:int}/confirmation", transfers.confirm, methods=["POST"]),
    ],
)
app.add_middleware(MetricsMiddleware)
