"""What a shop does to its PostgreSQL: users, accounts and payments, read and written some dozens of times a second."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg

_SCHEMA = """
CREATE TABLE users (
    id int PRIMARY KEY, email text NOT NULL UNIQUE, seen timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE accounts (
    id int PRIMARY KEY REFERENCES users, currency text NOT NULL, cents bigint NOT NULL CHECK (cents >= 0)
);
CREATE TABLE transactions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL REFERENCES accounts, cents int NOT NULL,
    currency text NOT NULL, status text NOT NULL DEFAULT 'pending', made timestamptz NOT NULL DEFAULT now(),
    synthetic boolean NOT NULL DEFAULT false
);
CREATE INDEX transactions_by_time ON transactions (made);
CREATE INDEX transactions_by_account ON transactions (account, made);
INSERT INTO users SELECT n, 'user' || n || '@shop.example' FROM generate_series(1, 500) n;
INSERT INTO accounts SELECT n, CASE n % 3 WHEN 0 THEN 'USD' ELSE 'EUR' END, 1000000 FROM generate_series(1, 500) n;
INSERT INTO transactions (account, cents, currency, status, made)
    SELECT a.id, 100 + (a.id * n) % 20000, a.currency, CASE (a.id + n) % 20 WHEN 0 THEN 'failed' ELSE 'settled' END,
        now() - n * interval '5 minutes'
    FROM accounts a, generate_series(1, 8) n;
INSERT INTO transactions (account, cents, currency, status, made)
    SELECT a.id, 100 + (a.id * 37) % 20000, a.currency, CASE a.id % 20 WHEN 0 THEN 'failed' ELSE 'settled' END,
        now() - a.id * interval '1 second'
    FROM accounts a;
GRANT SELECT ON transactions TO vedette;
"""
_BUSY = 7
"""The account that everybody pays from when a lock is waited for."""


async def open_shop(port: int, password: str) -> None:
    """Make the tables and what is in them on the first day."""
    connection = await asyncpg.connect(**_login(port, password))
    try:
        await connection.execute(_SCHEMA)
    finally:
        connection.terminate()


async def sell(port: int, password: str) -> None:
    """Three tills and a bookkeeper at work, until cancelled."""
    login = _login(port, password)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(_work(login, "till", _serve_customer))
        group.create_task(_work(login, "bookkeeper", _keep_books))


def _login(port: int, password: str) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "user": "shop", "password": password, "database": "shop"}


async def _work(login: dict[str, Any], name: str, job: Any) -> None:
    connection = await asyncpg.connect(**login, server_settings={"application_name": name})
    try:
        while True:
            await job(connection)
    finally:
        connection.terminate()


async def _serve_customer(connection: Any) -> None:
    """Some reading, a payment, and now and then one that is taken back."""
    account = random.randint(1, 500)
    for _ in range(random.randint(0, 3)):
        await connection.fetch(
            "SELECT id, cents, status FROM transactions WHERE account = $1 ORDER BY made DESC LIMIT 10", account
        )
    await connection.execute("UPDATE users SET seen = now() WHERE id = $1", account)
    transaction = connection.transaction()
    await transaction.start()
    await _pay(connection, account, random.randint(100, 25_000))
    if random.random() < 0.05:
        await transaction.rollback()
    else:
        await transaction.commit()
    await asyncio.sleep(random.uniform(0.02, 0.2))


async def _pay(connection: Any, account: int, cents: int) -> None:
    await connection.execute("UPDATE accounts SET cents = greatest(cents - $2, 0) WHERE id = $1", account, cents)
    await connection.execute(
        "INSERT INTO transactions (account, cents, currency) SELECT id, $2, currency FROM accounts WHERE id = $1",
        account,
        cents,
    )
    if random.random() < 0.05:
        await connection.execute("SELECT FROM accounts WHERE id = $1 FOR UPDATE", _BUSY)


async def _keep_books(connection: Any) -> None:
    """Settle what is pending, then hold an account's lock for a moment: the tills queue up behind it."""
    await connection.execute(
        "UPDATE transactions SET status = CASE WHEN id % 20 = 0 THEN 'failed' ELSE 'settled' END "
        "WHERE status = 'pending' AND made < now() - interval '2 seconds'"
    )
    await connection.fetch("SELECT currency, sum(cents) FROM transactions WHERE status = 'settled' GROUP BY currency")
    async with connection.transaction():
        await connection.execute("UPDATE accounts SET cents = cents + 500000 WHERE id = $1", _BUSY)
        await asyncio.sleep(random.uniform(0.5, 1.5))
    await asyncio.sleep(random.uniform(0.5, 2))
