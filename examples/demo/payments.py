"""The payments API of the demo: log in, see the balance, pay, see the payment completed, take it back.

Its payments are rows of the shop's PostgreSQL. As in life, some requests are slow and some fail.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
from aiohttp import web

EMAIL, PASSWORD = "synthetic.test@shop.example", "demo-only-login"
_ACCOUNT = 3
_SLOW, _BROKEN = 12, 60
"""Every so many requests one is slow, every so many payments one fails."""


class PaymentsApi:
    """The API over a pool of connections.

    Args:
        pool: connections to the shop's database.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._tokens: set[str] = set()
        self._answers: dict[str, dict[str, Any]] = {}
        self._requests, self._payments = itertools.count(1), itertools.count(1)
        self._jobs: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """Its routes."""
        made = web.Application(middlewares=[self._slow_now_and_then])
        made.add_routes(
            [
                web.post("/api/v1/auth/login", self._login),
                web.get("/api/v1/wallet/balance", self._balance),
                web.post("/api/v1/payments/send", self._send),
                web.get("/api/v1/payments/{id}", self._verify),
                web.post("/api/v1/payments/{id}/refund", self._refund),
            ]
        )
        return made

    @web.middleware
    async def _slow_now_and_then(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if next(self._requests) % _SLOW == 0:
            await asyncio.sleep(random.uniform(0.1, 0.3))
        try:
            answer: web.StreamResponse = await handler(request)
        except ConnectionResetError:  # the customer has gone in the middle of the request, as they all do at the end
            return web.Response(status=499)
        return answer

    async def _login(self, request: web.Request) -> web.Response:
        login = await request.json()
        if login.get("password") != PASSWORD:
            return web.json_response({"error": "wrong password"}, status=401)
        token = secrets.token_urlsafe(24)
        self._tokens.add(token)
        return web.json_response({"access_token": token, "token_type": "bearer"})

    async def _balance(self, request: web.Request) -> web.Response:
        self._check(request)
        cents = await self._pool.fetchval("SELECT cents FROM accounts WHERE id = $1", _ACCOUNT)
        return web.json_response({"balance": cents / 100, "currency": "USD"})

    async def _send(self, request: web.Request) -> web.Response:
        self._check(request)
        key = request.headers.get("Idempotency-Key", "")
        if key in self._answers:
            return web.json_response(self._answers[key], status=201)
        if next(self._payments) % _BROKEN == 0:
            return web.json_response({"error": "the card network does not answer"}, status=503)
        body = await request.json()
        number = await self._pool.fetchval(
            "INSERT INTO transactions (account, cents, currency, synthetic) VALUES ($1, $2, $3, $4) RETURNING id",
            _ACCOUNT, round(float(body["amount"]) * 100), body["currency"], "X-Synthetic-Run" in request.headers,
        )  # fmt: skip
        job = asyncio.ensure_future(self._settle(number))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        answer = {"transaction_id": number, "status": "pending"}
        if key:
            self._answers[key] = answer
        return web.json_response(answer, status=201)

    async def _settle(self, number: int) -> None:
        await asyncio.sleep(random.uniform(0.1, 0.4))
        await self._pool.execute(
            "UPDATE transactions SET status = 'settled' WHERE id = $1 AND status = 'pending'", number
        )

    async def _verify(self, request: web.Request) -> web.Response:
        self._check(request)
        status = await self._pool.fetchval(
            "SELECT status FROM transactions WHERE id = $1", int(request.match_info["id"])
        )
        if status is None:
            raise web.HTTPNotFound
        return web.json_response({"status": {"settled": "completed"}.get(status, status)})

    async def _refund(self, request: web.Request) -> web.Response:
        self._check(request)
        await self._pool.execute(
            "UPDATE transactions SET status = 'refunded' WHERE id = $1", int(request.match_info["id"])
        )
        return web.json_response({"status": "refunded"})

    def _check(self, request: web.Request) -> None:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self._tokens:
            raise web.HTTPUnauthorized

    async def close(self) -> None:
        """Leave no payment half settled."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)


@asynccontextmanager
async def payments_api(postgres_port: int, password: str) -> AsyncIterator[str]:
    """Serve on a free port while the body runs; yields the API's address."""
    pool = await asyncpg.create_pool(
        host="127.0.0.1", port=postgres_port, user="shop", password=password, database="shop", min_size=1, max_size=4,
        server_settings={"application_name": "api"},
    )  # fmt: skip
    api = PaymentsApi(pool)
    runner = web.AppRunner(api.application(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
        await api.close()
        pool.terminate()


async def go_shopping(url: str) -> None:
    """Customers who log in, look and pay, until cancelled; some have forgotten their password."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while True:
            password = PASSWORD if random.random() > 0.05 else "forgotten"
            answer = await client.post("/api/v1/auth/login", json={"email": EMAIL, "password": password})
            if answer.status_code == 200:
                client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
                await client.get("/api/v1/wallet/balance")
                amount = f"{random.randint(100, 25_000) / 100:.2f}"
                await client.post("/api/v1/payments/send", json={"amount": amount, "currency": "USD"})
            await asyncio.sleep(random.uniform(0.1, 0.6))
