"""A shop's own tills on the database of the payments service: read and written some dozens of times a second."""

from __future__ import annotations

import asyncio
import random
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1]))
from payments.passwords import hashed
from payments.traffic import PASSWORD

_SCHEMA = Path(__file__).parents[1] / "payments" / "schema.sql"
_FIRST_DAY = """
INSERT INTO users (id, email, password, verified)
    SELECT n, CASE n WHEN 3 THEN 'synthetic.test' ELSE 'user' || n END || '@shop.example', '{password}', true
    FROM generate_series(1, 500) n;
ALTER TABLE users ALTER id RESTART WITH 501;
INSERT INTO accounts SELECT n, CASE n % 3 WHEN 0 THEN 'USD' ELSE 'EUR' END, 10000, n = 3 FROM generate_series(1, 500) n;
INSERT INTO transactions (account, amount, currency, channel, status, made)
    SELECT a.id, (100 + (a.id * n) % 20000) / 100.0, a.currency, 'till',
        CASE (a.id + n) % 20 WHEN 0 THEN 'failed' ELSE 'completed' END, now() - n * interval '5 minutes'
    FROM accounts a, generate_series(1, 8) n;
INSERT INTO transactions (account, amount, currency, channel, status, made)
    SELECT a.id, (100 + (a.id * 37) % 20000) / 100.0, a.currency, 'till',
        CASE a.id % 20 WHEN 0 THEN 'failed' ELSE 'completed' END, now() - a.id * interval '1 second'
    FROM accounts a;
GRANT SELECT ON transactions TO vedette;
"""
_BUSY = 7
"""The account that everybody pays from when a lock is waited for."""


async def open_shop(port: int, password: str) -> None:
    """Make the tables and what is in them on the first day."""
    connection = await asyncpg.connect(**_login(port, password))
    try:
        kept = await asyncio.to_thread(hashed, PASSWORD)
        await connection.execute(_SCHEMA.read_text() + _FIRST_DAY.format(password=f"\\x{kept.hex()}"))
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
            "SELECT id, amount, status FROM transactions WHERE account = $1 ORDER BY made DESC LIMIT 10", account
        )
    await connection.execute("UPDATE users SET seen = now() WHERE id = $1", account)
    transaction = connection.transaction()
    await transaction.start()
    await _pay(connection, account, Decimal(random.randint(100, 25_000)) / 100)
    if random.random() < 0.05:
        await transaction.rollback()
    else:
        await transaction.commit()
    await asyncio.sleep(random.uniform(0.02, 0.2))


async def _pay(connection: Any, account: int, amount: Decimal) -> None:
    await connection.execute("UPDATE accounts SET balance = greatest(balance - $2, 0) WHERE id = $1", account, amount)
    await connection.execute(
        "INSERT INTO transactions (account, amount, currency, channel) SELECT id, $2, currency, 'till' "
        "FROM accounts WHERE id = $1",
        account,
        amount,
    )
    if random.random() < 0.05:
        await connection.execute("SELECT FROM accounts WHERE id = $1 FOR UPDATE", _BUSY)


async def _keep_books(connection: Any) -> None:
    """Settle what is pending, then hold an account's lock for a moment: the tills queue up behind it."""
    await connection.execute(
        "UPDATE transactions SET status = CASE WHEN id % 20 = 0 THEN 'failed' ELSE 'completed' END "
        "WHERE status = 'pending' AND channel = 'till' AND made < now() - interval '2 seconds'"
    )
    await connection.fetch(
        "SELECT currency, sum(amount) FROM transactions WHERE status = 'completed' GROUP BY currency"
    )
    async with connection.transaction():
        await connection.execute("UPDATE accounts SET balance = balance + 5000 WHERE id = $1", _BUSY)
        await asyncio.sleep(random.uniform(0.5, 1.5))
    await asyncio.sleep(random.uniform(0.5, 2))
