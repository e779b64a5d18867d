"""How likely a payment is fraud: by its amount, and by how many the same account made in this minute."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal

from redis.asyncio import Redis

_LARGE, _MANY = Decimal(10_000), 10
_REVIEW, _BLOCK = Decimal("0.60"), Decimal("0.90")
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a payment.

    Attributes:
        score: from 0 to 1.
        action: `allow`, `review` (it goes on, and somebody looks at it) or `block`.
        reason: what the score is made of: `amount` or `velocity`.
    """

    score: Decimal
    action: str
    reason: str


async def assess(redis: Redis, account: int, amount: Decimal) -> Verdict:
    """Judge a payment, and remember that it was tried."""
    key = f"velocity:{account}:{int(time.time()) // 60}"
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.incr(key)
        pipeline.expire(key, 120)
        tries, _ = await pipeline.execute()
    return judged(amount, int(tries))


def judged(amount: Decimal, tries: int) -> Verdict:
    """The verdict on an amount at the so-many-th try in a minute."""
    by_amount, by_velocity = min(amount / _LARGE, Decimal(1)), min(Decimal(tries) / _MANY, Decimal(1))
    score = max(by_amount, by_velocity).quantize(_CENT)
    action = "block" if score >= _BLOCK else "review" if score >= _REVIEW else "allow"
    return Verdict(score, action, "amount" if by_amount >= by_velocity else "velocity")
