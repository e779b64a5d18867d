"""What a payments company does to its Redis: transactions counted, revenue added, users seen, a queue worked off."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime

from redis.asyncio import Redis

_DAY = 86_400


async def pay_and_browse(port: int, password: str) -> None:
    """Some dozens of operations a second, until cancelled."""
    redis = Redis(host="127.0.0.1", port=port, password=password)
    try:
        while True:
            await _payment(redis)
            for _ in range(random.randint(0, 4)):
                await redis.get(f"session:{random.randint(1, 400)}")
            await asyncio.sleep(random.uniform(0.02, 0.12))
    finally:
        await redis.aclose()


async def _payment(redis: Redis) -> None:
    now = datetime.now(UTC)
    hour, day = now.strftime("%Y%m%d%H"), now.strftime("%Y%m%d")
    user = random.randint(1, 300)
    cents = random.randint(100, 25_000)
    async with redis.pipeline(transaction=True) as pipeline:
        for scope, stamp, ttl in (("hourly", hour, _DAY), ("daily", day, 7 * _DAY)):
            pipeline.incr(f"{scope}_transactions:{stamp}").expire(f"{scope}_transactions:{stamp}", ttl)
            pipeline.incrby(f"{scope}_revenue:{stamp}", cents).expire(f"{scope}_revenue:{stamp}", ttl)
        pipeline.zadd("active_users", {f"u-{user}": time.time()})
        pipeline.set(f"session:{user}", "x" * 64, ex=900)
        pipeline.rpush("payments:queue", cents)
        if random.random() < 0.9:
            pipeline.lpop("payments:queue")
        await pipeline.execute()
