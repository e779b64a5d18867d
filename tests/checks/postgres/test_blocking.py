"""Blocking trees: a chain of real sessions, and the masking of what they run."""

from __future__ import annotations

import asyncio

import pytest

from postgres_servers import PostgresServer
from servers import until
from vedette import Status
from vedette_checks.postgres.blocking import Tree, trees
from vedette_checks.postgres.masking import mask_sql

from .conftest import psql, run

pytestmark = pytest.mark.anyio


IDLE = "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'"


async def test_a_chain_behind_an_alter_table_names_its_root(server: PostgresServer) -> None:
    await asyncio.to_thread(server.sql, "DROP TABLE IF EXISTS accounts; CREATE TABLE accounts (id int, owner text)")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with (
        psql(server, "BEGIN; UPDATE accounts SET owner = 'Anna Secret' WHERE id = 4242"),
        psql(server, "ALTER TABLE accounts ADD b int", wait=False),
    ):
        await asyncio.to_thread(until, lambda: server.scalar(waiting) == "1", "the ALTER TABLE to wait")
        async with psql(server, "SELECT count(*) FROM accounts", wait=False):
            await asyncio.to_thread(until, lambda: server.scalar(waiting) == "2", "the SELECT to wait behind it")
            root = await asyncio.to_thread(server.scalar, IDLE)
            outcome = await run(server, blocking_warning="1ms", blocking_critical="1h")
            calm = await run(server)
            await asyncio.to_thread(server.sql, f"SELECT pg_terminate_backend({root})")
            await asyncio.to_thread(until, lambda: server.scalar(waiting) == "0", "those who waited to go on")
    assert outcome.error is None
    assert outcome.value("postgresql.blocking.waiting") == 2
    assert outcome.value("postgresql.blocking.roots") == 1
    assert 0 < outcome.value("postgresql.blocking.longest_wait") < 60  # type: ignore[operator]
    assert outcome.status("postgres.blocking") is Status.WARNING
    message = outcome.message("postgres.blocking")
    assert message.startswith(f"pid {root} (postgres, idle in transaction for ")
    assert " blocks 2 sessions, the longest for " in message
    assert message.endswith(": UPDATE accounts SET owner = ? WHERE id = ?;")
    assert (calm.status("postgres.blocking"), calm.message("postgres.blocking")) == (Status.OK, "")


async def test_nobody_waits(server: PostgresServer) -> None:
    outcome = await run(server)
    assert outcome.value("postgresql.blocking.waiting") == 0
    assert outcome.value("postgresql.blocking.longest_wait") == 0


def test_trees_of_chains_forks_and_circles() -> None:
    assert trees([]) == []
    chain = [(2, [1], 9.0), (3, [2], 4.0), (5, [4], 7.0)]
    assert trees(chain) == [Tree(1, 2, 9.0), Tree(4, 1, 7.0)]
    assert trees([(3, [1, 2], 5.0)]) == [Tree(1, 1, 5.0), Tree(2, 1, 5.0)]
    assert trees([(1, [2], 5.0), (2, [1], 5.0)]) == []
    assert trees([(1, [2, 9], 5.0), (2, [1], 6.0)]) == [Tree(9, 2, 6.0)]


@pytest.mark.parametrize(
    ("sql", "masked"),
    [
        ("SELECT * FROM t WHERE a = 'x''y' AND b=-12.5e3", "SELECT * FROM t WHERE a = ? AND b=?"),
        ("SELECT E'it\\'s', $$a'b$$, $f$ $$ $f$, B'01', table1.c2, $1", "SELECT ?, ?, ?, ?, table1.c2, $1"),
        ('SELECT "odd ""name 1" -- secret\n  FROM t /* 42 */', 'SELECT "odd ""name 1" FROM t'),
        ("UPDATE t SET a = 'cut off in the mid", "UPDATE t SET a = ?"),
        ("SELECT $x$ cut off too", "SELECT ?"),
        ("SELECT '😀\n', 0x1F", "SELECT ?, ?"),
        ("/* a /* b */ nested secret */ SELECT .4242, a.b2 /* cut /* off */", "SELECT ?, a.b2"),
        ("SELECT 1 -- /* no comment within\n, 'x'", "SELECT ? , ?"),
    ],
)
def test_masked_sql_shows_no_value(sql: str, masked: str) -> None:
    assert mask_sql(sql) == masked


def test_masked_sql_is_short() -> None:
    assert mask_sql("SELECT " + "a, " * 500, 50) == ("SELECT " + "a, " * 500)[:49] + "…"
