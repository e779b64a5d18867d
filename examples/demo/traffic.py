"""What is left of a payments company where PostgreSQL cannot run: its sessions, its queue and its counters in Redis."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from uuid import uuid4

from redis.asyncio import Redis

from vedette.instrument import RealtimeCounters

_QUEUE = "payments:queue"


async def pay_and_browse(port: int, password: str) -> None:
    """Some dozens of operations a second, until cancelled."""
    redis = Redis(host="127.0.0.1", port=port, password=password)
    counters = RealtimeCounters(redis)
    try:
        while True:
            user = random.randint(1, 300)
            amount, currency = Decimal(random.randint(100, 25_000)) / 100, random.choice(("USD", "EUR"))
            await counters.record(transaction_id=str(uuid4()), amount=amount, currency=currency, user_id=f"u-{user}")
            await redis.set(f"session:{user}", "x" * 64, ex=900)
            await redis.rpush(_QUEUE, str(amount))
            if random.random() < 0.9:
                await redis.lpop(_QUEUE)
            for _ in range(random.randint(0, 4)):
                await redis.get(f"session:{random.randint(1, 400)}")
            await asyncio.sleep(random.uniform(0.02, 0.12))
    finally:
        await redis.aclose()
