"""A payments API on a real socket, with a ledger of its own and faults on demand."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from listening import listening

TOKEN = "tok-3f9a8b7c6d5e4f"


@dataclass
class Request:
    """What arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def step(self) -> str:
        """login, balance, payment, verify, refund, or the path."""
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.path.endswith("/refund"):
            return "refund"
        return {"login": "login", "balance": "balance", "send": "payment"}.get(
            parts[-1], "verify" if "payments" in parts else self.path
        )

    @property
    def run(self) -> str:
        return self.headers.get("x-synthetic-run", "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Payment:
    """A line of the ledger."""

    id: str
    run: str
    key: str
    amount: str
    status: str = "pending"
    refunds: int = 0
    looks: int = 0


class Cut(Exception):
    """Close the connection."""


Reply = tuple[int, dict[str, str], bytes]


def reply(status: int, body: Any = b"", **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/json", **named}, data


@dataclass
class PaymentsApi:
    """The API.

    Attributes:
        fault: asked before a request is acted on; a reply or a `Cut` takes the place of the right answer.
        after: the same, once it was acted on: the deed is done, the answer is spoilt.
        looks: how often a payment is looked at before it is completed; None: never.
        requests: everything that arrived.
        payments: the ledger, by id.
        extra: more replies, by path.
    """

    fault: Callable[[Request], Reply | None] = lambda _: None
    after: Callable[[Request], Reply | None] = lambda _: None
    looks: int | None = 0
    requests: list[Request] = field(default_factory=list)
    payments: dict[str, Payment] = field(default_factory=dict)
    by_key: dict[str, Reply] = field(default_factory=dict)
    extra: dict[str, Callable[[Request], Reply]] = field(default_factory=dict)
    raw: dict[str, Callable[[asyncio.StreamWriter], Any]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    port: int = 0
    scheme: str = "http"
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    """Steps whose answer waits for an event."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def steps(self) -> list[str]:
        return [request.step for request in self.requests]

    def act(self, request: Request) -> Reply:
        key = request.headers.get("idempotency-key", "")
        if key and key in self.by_key:
            return self.by_key[key]
        made = self._act(request)
        if key and made[0] < 300:
            self.by_key[key] = made
        return made

    def _act(self, request: Request) -> Reply:
        step = request.step
        if step == "login":
            return reply(200, {"access_token": TOKEN})
        if request.path in self.extra:
            return self.extra[request.path](request)
        if step != "refund" and request.headers.get("authorization") != f"Bearer {TOKEN}":
            return reply(401, {"error": "who are you"})
        if step == "balance":
            return reply(200, {"currency": "USD", "balance": 120.5})
        if step == "payment":
            made = Payment(
                str(uuid4()), request.run, request.headers.get("idempotency-key", ""), request.json["amount"]
            )
            self.payments[made.id] = made
            return reply(201, {"transaction_id": made.id, "status": "pending"})
        found = self.payments.get(request.path.split("/")[4])
        if found is None:
            return reply(404, {"error": "no such payment"})
        if step == "refund":
            found.refunds += 1
            found.status = "refunded"
            return reply(200, {"status": "refunded"})
        found.looks += 1
        if self.looks is not None and found.looks > self.looks:
            found.status = "completed"
        return reply(200, {"status": found.status})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, Cut, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(method, path, headers, body)
        self.requests.append(request)
        self.arrived.set()
        if path in self.raw:
            await self.raw[path](writer)
            raise Cut
        answer = self.fault(request) or self.act(request)
        if request.step in self.held:
            await self.held[request.step].wait()
        status, sent, data = self.after(request) or answer
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in sent.items())]
        if not any(name.lower() == "content-length" for name in sent):
            lines.append(f"Content-Length: {len(data)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else data))
        await writer.drain()
        if int(next((sent[name] for name in sent if name.lower() == "content-length"), len(data))) > len(data):
            raise Cut

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[PaymentsApi]:
        """Serve on a free port while the body runs."""
        async with listening(self._serve, port=self.port, tls=tls) as self.port:
            self.scheme = "https" if tls else "http"
            yield self


def payment_flow(api: PaymentsApi, **changes: Any) -> dict[str, Any]:
    """The options of the strategy's flow: login, balance, payment, verify, and the refund."""
    bearer = {"Authorization": "Bearer {{ token }}"}
    return {
        "name": "payment-flow",
        "base_url": api.url,
        "interval": "60s",
        "timeout": "60s",
        "cleanup_timeout": "60s",
        "variables": {"amount": "1.00"},
        "steps": [
            {
                "name": "login",
                "request": "POST /api/v1/auth/login",
                "json": {"email": "synthetic.test@example.com", "password": "hunter2-s3cret"},
                "expect": {"status": 200},
                "extract": {"token": "json.access_token"},
            },
            {
                "name": "balance",
                "request": "GET /api/v1/wallet/balance",
                "headers": bearer,
                "expect": {"status": 200, "json": {"currency": "USD"}},
            },
            {
                "name": "payment",
                "request": "POST /api/v1/payments/send",
                "headers": bearer,
                "json": {"amount": "{{ amount }}", "currency": "USD"},
                "extract": {"payment_id": "json.transaction_id"},
            },
            {
                "name": "verify",
                "request": "GET /api/v1/payments/{{ payment_id }}",
                "headers": bearer,
                "until": {"json": {"status": "completed"}, "every": "10ms", "within": "60s"},
            },
        ],
        "cleanup": [{"name": "refund", "request": "POST /api/v1/payments/{{ payment_id }}/refund"}],
        **changes,
    }
