"""Reports by SQLAlchemy, over a small pool of its own, so that none of them keeps a payment waiting."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import column, func, select, table
from sqlalchemy.ext.asyncio import AsyncEngine

_TRANSACTIONS = table("transactions", column("account"), column("status"), column("amount"), column("made"))


async def today(engine: AsyncEngine, account: int) -> dict[str, tuple[int, Decimal]]:
    """How many payments of an account have which status since midnight UTC, and their sum."""
    columns = _TRANSACTIONS.c
    midnight = func.date_trunc("day", func.now(), "UTC")
    statement = (
        select(columns.status, func.count(), func.sum(columns.amount))
        .where(columns.account == account, columns.made >= midnight)
        .group_by(columns.status)
    )
    async with engine.connect() as connection:
        return {status: (number, total) for status, number, total in await connection.execute(statement)}
