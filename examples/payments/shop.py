"""What requests share: the parts of the service, and who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.requests import Request

from payments.cards import CardNetwork
from payments.ledger import Ledger
from payments.settlement import Settlement
from vedette.instrument import RealtimeCounters


@dataclass(frozen=True, slots=True)
class Shop:
    """The parts of the service.

    Attributes:
        ledger: PostgreSQL, by asyncpg.
        reports: the same, by SQLAlchemy.
        redis: sessions, what payments became of, tries of each account.
        counters: of the dashboard, in Redis.
        cards: the card network.
        settlement: the queue behind the requests.
    """

    ledger: Ledger
    reports: AsyncEngine
    redis: Redis
    counters: RealtimeCounters
    cards: CardNetwork
    settlement: Settlement


def shop_of(request: Request) -> Shop:
    """The parts, as the lifespan made them."""
    shop: Shop = request.state.shop
    return shop


def session_key(token: str) -> str:
    """Where a session is in Redis."""
    return f"session:{token}"


async def signed_in(request: Request) -> int:
    """The user whose session it is.

    Raises:
        HTTPException: there is none: 401.
    """
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    user = await shop_of(request).redis.get(session_key(token))
    if user is None:
        raise HTTPException(401)
    return int(user)


async def fields(request: Request, *names: str) -> dict[str, Any]:
    """The request's JSON, which must have these members.

    Raises:
        HTTPException: it has not: 422.
    """
    try:
        body = await request.json()
    except (JSONDecodeError, UnicodeDecodeError):
        body = None
    if not isinstance(body, dict) or not set(names) <= set(body):
        raise HTTPException(422, f"a JSON object with {', '.join(names)} is expected")
    return body
