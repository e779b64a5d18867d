"""The ledger in PostgreSQL: users, accounts and payments. Nothing here measures: `instrument_asyncpg` sees it all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg

_PAYMENT = "id, account, amount, currency, status, made, card, risk, synthetic"


class UnknownAccountError(Exception):
    """There is no such account in this currency."""


class TakenError(Exception):
    """Another user has this e-mail address."""


@dataclass(frozen=True, slots=True)
class User:
    """Who may log in.

    Attributes:
        id: of the user and of their account.
        password: what `passwords.hashed` made of it.
    """

    id: int
    password: bytes


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of `transactions`.

    Attributes:
        id: its number.
        account: whose.
        amount: in whole units of the currency.
        currency: of ISO 4217.
        status: `new` until it is authorized, then `pending` until it is settled, then `completed`, and `refunded` where
            it was taken back; or it ends as `failed`, `declined` or `blocked`.
        made: when it came in.
        card: token of the card that pays.
        risk: of fraud, from 0 to 1.
        synthetic: a probe pays, and it is no business.
    """

    id: int
    account: int
    amount: Decimal
    currency: str
    status: str
    made: datetime
    card: str
    risk: Decimal
    synthetic: bool


class Ledger:
    """What the service does to its database.

    Args:
        pool: of asyncpg.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def register(self, email: str, password: bytes, currency: str, credit: Decimal) -> int:
        """Open an account with some money on it; returns its number.

        Raises:
            TakenError: somebody has this e-mail address.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            try:
                user: int = await connection.fetchval(
                    "INSERT INTO users (email, password) VALUES ($1, $2) RETURNING id", email, password
                )
            except asyncpg.UniqueViolationError:
                raise TakenError from None
            await connection.execute(
                "INSERT INTO accounts (id, currency, balance) VALUES ($1, $2, $3)", user, currency, credit
            )
        return user

    async def verify(self, user: int) -> bool:
        """Note that the address is the user's own; False if that was known."""
        done = await self._pool.fetchval(
            "UPDATE users SET verified = true WHERE id = $1 AND NOT verified RETURNING id", user
        )
        return done is not None

    async def user(self, email: str) -> User | None:
        """Whoever has this e-mail address."""
        row = await self._pool.fetchrow("SELECT id, password FROM users WHERE email = $1", email)
        return None if row is None else User(**row)

    async def balance(self, account: int) -> tuple[Decimal, str]:
        """Amount and currency."""
        row = await self._pool.fetchrow("SELECT balance, currency FROM accounts WHERE id = $1", account)
        return row["balance"], row["currency"]

    async def reserve(self, account: int, amount: Decimal, currency: str, card: str, once: str) -> tuple[Payment, bool]:
        """Take the amount from the account and note the payment, once: the same `once` finds the same payment.

        Returns:
            The payment, `declined` where there is not enough; and whether it is new.

        Raises:
            UnknownAccountError: there is no account in this currency.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            found = await connection.fetchrow(
                "SELECT balance, synthetic FROM accounts WHERE id = $1 AND currency = $2 FOR UPDATE", account, currency
            )
            if found is None:
                raise UnknownAccountError
            earlier = await connection.fetchrow(
                f"SELECT {_PAYMENT} FROM transactions WHERE account = $1 AND once = $2", account, once
            )
            if earlier is not None:
                return Payment(**earlier), False
            enough = found["balance"] >= amount
            if enough:
                await connection.execute("UPDATE accounts SET balance = balance - $2 WHERE id = $1", account, amount)
            row = await connection.fetchrow(
                "INSERT INTO transactions (account, amount, currency, card, synthetic, once, status) "
                f"VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {_PAYMENT}",
                account, amount, currency, card, found["synthetic"], once, "new" if enough else "declined",
            )  # fmt: skip
            return Payment(**row), True

    async def accept(self, payment: int, risk: Decimal) -> bool:
        """A new payment may be settled; False if it was not new any more."""
        sql = "UPDATE transactions SET status = 'pending', risk = $2 WHERE id = $1 AND status = 'new' RETURNING id"
        return await self._pool.fetchval(sql, payment, risk) is not None

    async def find(self, payment: int, account: int | None = None) -> Payment | None:
        """A payment; only of this account, where one is given."""
        row = await self._pool.fetchrow(
            f"SELECT {_PAYMENT} FROM transactions WHERE id = $1 AND ($2::int IS NULL OR account = $2)", payment, account
        )
        return None if row is None else Payment(**row)

    async def complete(self, payment: int) -> bool:
        """A pending payment is paid; False if it was not pending any more."""
        sql = "UPDATE transactions SET status = 'completed' WHERE id = $1 AND status = 'pending' RETURNING id"
        return await self._pool.fetchval(sql, payment) is not None

    async def give_back(self, payment: int, status: str, *, was: str, risk: Decimal | None = None) -> bool:
        """End a payment with this status, and its amount is on the account again; False if it is not `was` any more."""
        sql = """
            WITH ended AS (
                UPDATE transactions SET status = $2, risk = coalesce($4, risk) WHERE id = $1 AND status = $3
                RETURNING account, amount
            )
            UPDATE accounts SET balance = balance + amount FROM ended WHERE accounts.id = ended.account RETURNING id
        """
        return await self._pool.fetchval(sql, payment, status, was, risk) is not None

    async def tidy_up(self) -> list[int]:
        """What a crash left behind for half a minute: new payments end here, pending ones are to be queued again."""
        await self._pool.execute("""
            WITH ended AS (
                UPDATE transactions SET status = 'failed' WHERE status = 'new' AND made < now() - interval '30 seconds'
                RETURNING account, amount
            ), total AS (SELECT account, sum(amount) AS amount FROM ended GROUP BY account)
            UPDATE accounts SET balance = balance + amount FROM total WHERE accounts.id = total.account
        """)
        rows = await self._pool.fetch(
            "SELECT id FROM transactions WHERE status = 'pending' AND channel = 'api' "
            "AND made < now() - interval '30 seconds' ORDER BY made LIMIT 100"
        )
        return [row["id"] for row in rows]
